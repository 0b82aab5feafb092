"""A guardrail that is a program: it reads an event and writes its verdict, both as JSON."""

import json
import sys

event = json.load(sys.stdin)
if "secret" in event["value"].lower():
    verdict = {"decision": "deny", "reason": "secrets are not read here"}
else:
    verdict = {"decision": "allow"}
json.dump(verdict, sys.stdout)
