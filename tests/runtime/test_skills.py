"""Skills: reading their folders, the tool that loads them, and what a turn has of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from mob import open_session_service
from runtime.errors import SessionError
from runtime.ids import RunId, SessionId
from runtime.messages import ToolOutcome
from runtime.models.base import ModelRequest
from runtime.models.scripted import ScriptedModel
from runtime.runner import LocalSessionRunner
from runtime.service import (
    CreateSessionRequest,
    InitialTurnPolicy,
    SessionBuildOptions,
    StartTurnRequest,
)
from runtime.skills import LoadSkill, Skill, SkillInvalid, Skills, read_folders, split_front_matter
from runtime.tools.base import Toolbox, ToolContext
from stores import MemoryStore
from tests.runtime.fakes import call, counting_ports, make_realm, new_session

NOTES = "---\nname: notes\ndescription: How notes are written.\n---\nBe short. See `more.txt`.\n"


def make(folder: Path, text: str = NOTES, name: str = "notes") -> Path:
    (folder / name).mkdir(parents=True)
    (folder / name / "SKILL.md").write_text(text)
    return folder / name


@pytest.mark.parametrize(
    ("front", "found"),
    [
        ("name: a\ndescription: plain text # a remark", "plain text"),
        ("name: a\ndescription: goes on\n  over two lines", "goes on over two lines"),
        ('name: a\ndescription: "quoted: \\"well\\"" # so', 'quoted: "well"'),
        ("name: a\ndescription: 'it''s quoted'", "it's quoted"),
        ("name: a\ndescription: >-\n  folded\n  text\n", "folded text"),
        ("name: a\ndescription: |\n  kept\n  lines\n", "kept\nlines"),
        ("name: a\nmetadata:\n  by: me\n  tags: [x]\nlicense: {}\ndescription: b", "b"),
        ("# first\n\nname: a\ndescription: see http://x/y#z", "see http://x/y#z"),
    ],
)
def test_front_matter_is_read(front: str, found: str) -> None:
    """CONTRACTS 4.9, skills: front matter, then a body."""
    read, body = split_front_matter(f"---\n{front}\n---\nthe body\n---\nmore")
    assert (read, body) == ({"name": "a", "description": found}, "the body\n---\nmore")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("no front matter", "is missing"),
        ("---\nname: a\n", "is missing"),
        ("---\nname: a\n---\n", "description: has 0 characters"),
        ("---\ndescription: b\n---\n", "name: '' is not a name"),
        ("---\nname: a b\ndescription: c\n---\n", "name: 'a b' is not a name"),
        ("---\nname: a\nname: b\n---\n", "name: is there twice"),
        ("---\nname: a\ndescription: [b]\n---\n", "is not a plain text; put it in quotes"),
        ("---\nname: a\ndescription: b: c\n---\n", "is not a plain text; put it in quotes"),
        ('---\nname: a\ndescription: "b\n---\n', "is not closed"),
        ("---\nname: a\ndescription: 'b\n---\n", "is not closed"),
        ("---\nname: a\ndescription: 'b' c\n---\n", "something follows"),
        ("---\nwhat\n---\n", "line 2 of the front matter"),
        (f"---\nname: a\ndescription: {'b' * 1025}\n---\n", "has 1025 characters"),
    ],
)
def test_what_is_no_skill_is_refused_with_its_path(tmp_path: Path, text: str, said: str) -> None:
    """CONTRACTS 4.9, skills: mistakes are named with the path."""
    folder = make(tmp_path, text)
    with pytest.raises(SkillInvalid, match="SKILL") as caught:
        read_folders([tmp_path])
    assert said in caught.value.reason
    assert caught.value.path == folder / "SKILL.md"


def test_folders_of_skills_and_a_skill_itself(tmp_path: Path) -> None:
    one = make(tmp_path / "one")
    other = make(tmp_path, NOTES.replace("notes", "other"), "other")
    found = read_folders([tmp_path / "one", other])
    assert {name: skill.folder for name, skill in found.items()} == {"notes": one, "other": other}
    assert found["notes"].body == "Be short. See `more.txt`."
    for folders, said in (
        ([tmp_path / "none"], "no such folder"),
        ([make(tmp_path / "empty").parent.parent], "no skill is in it"),
        ([one, one], "is taken by"),
    ):
        if said == "no skill is in it":
            (tmp_path / "hollow").mkdir()
            folders = [tmp_path / "hollow"]
        with pytest.raises(SkillInvalid, match=said):
            read_folders(folders)


async def load(folder: Path, **arguments: str) -> tuple[bool, str]:
    """What the tool says, and whether it did as asked."""
    tool = LoadSkill(Skills(read_folders([folder])))
    runner: LocalSessionRunner = make_realm(MemoryStore()).runner
    given = ", ".join(f'"{key}": "{value}"' for key, value in arguments.items())
    asked = call("c1", "load_skill", f"{{{given}}}")
    result = await Toolbox([tool]).run(ToolContext(SessionId("s"), RunId("r"), asked, runner))
    return result.outcome is ToolOutcome.OK, result.text


async def test_the_tool_reads_the_body_and_other_files(tmp_path: Path) -> None:
    """CONTRACTS 4.9, skills: loaded on demand."""
    folder = make(tmp_path)
    (folder / "deep").mkdir()
    (folder / "deep" / "more.txt").write_text("more of it")
    assert await load(tmp_path, name="notes") == (True, "Be short. See `more.txt`.")
    assert await load(tmp_path, name="notes", file="deep/more.txt") == (True, "more of it")
    ok, text = await load(tmp_path, name="notes", file="less.txt")
    assert not ok
    assert "there are: SKILL.md, deep/more.txt" in text
    ok, text = await load(tmp_path, name="others")
    assert not ok


@pytest.mark.parametrize("file", ["../secret", "/etc/passwd", "link", "deep/../../secret", "way/x"])
async def test_the_tool_reads_nothing_outside_the_folder(tmp_path: Path, file: str) -> None:
    """CONTRACTS 4.9, skills: confined to its folder, links followed first."""
    folder = make(tmp_path / "skills")
    (tmp_path / "skills" / "secret").write_text("secret")
    (tmp_path / "x").write_text("secret")
    (folder / "link").symlink_to(tmp_path / "skills" / "secret")
    (folder / "way").symlink_to(tmp_path)
    ok, text = await load(folder, name="notes", file=file)
    assert not ok
    assert "secret" not in text.replace(repr(file), "")


async def test_what_is_no_text_or_too_much_is_not_read(tmp_path: Path) -> None:
    folder = make(tmp_path)
    (folder / "image").write_bytes(b"\xff\xfe\x00")
    (folder / "huge").write_text("x" * ((1 << 20) + 1))
    assert "is not UTF-8 text" in (await load(tmp_path, name="notes", file="image"))[1]
    assert "at most 1048576 are read" in (await load(tmp_path, name="notes", file="huge"))[1]
    assert (
        "no other files"
        in (
            await Toolbox([LoadSkill(Skills({"a": Skill("a", "b", "c")}))]).run(
                ToolContext(
                    SessionId("s"),
                    RunId("r"),
                    call("c", "load_skill", '{"name": "a", "file": "b"}'),
                    make_realm(MemoryStore()).runner,
                )
            )
        ).text
    )


class Heard:
    """A model that remembers the system prompts and tools it was given."""

    def __init__(self) -> None:
        self.prompts: list[str] = []
        self.tools: list[str] = []

    def answer(self, request: ModelRequest) -> str:
        self.prompts.append(request.instructions)
        self.tools = [tool.name for tool in request.tools]
        return "done"


async def test_a_session_has_what_is_preloaded_and_a_turn_what_it_refers_to(tmp_path: Path) -> None:
    """CONTRACTS 4.9: preload_skills for the session, skill_references for one turn."""
    make(tmp_path)
    make(tmp_path, NOTES.replace("notes", "style").replace("Be short", "Be kind"), "style")
    heard = Heard()
    build = SessionBuildOptions(
        llm_client_override=ScriptedModel(heard.answer), preload_skills=("style",)
    )
    async with open_session_service(skills=[tmp_path]) as service:
        made = await service.create_session(
            CreateSessionRequest("sim:echo", "one", "Help.", build=build)
        )
        again = StartTurnRequest("two", skill_references=("notes", "style"))
        await service.start_turn(made.session_id, again)
        await service.start_turn(made.session_id, StartTurnRequest("three"))
        one, two, three = heard.prompts
        assert one.startswith("Help.\n\nYou have skills")
        assert "- notes: How notes are written." in one
        assert one.endswith('<skill name="style">\nBe kind. See `more.txt`.\n</skill>')
        assert two == f'{one}\n\n<skill name="notes">\nBe short. See `more.txt`.\n</skill>'
        assert three == one
        assert heard.tools == ["load_skill"]
        with pytest.raises(SessionError, match="there is no skill 'x' here; the skills are: notes"):
            await service.start_turn(made.session_id, StartTurnRequest("4", ("x",)))
        unknown = SessionBuildOptions(preload_skills=("x",))
        with pytest.raises(SessionError, match="nothing was begun"):
            await service.create_session(CreateSessionRequest("sim:echo", build=unknown))
        assert len(list(await service.list())) == 1


async def test_what_is_preloaded_survives_the_process(tmp_path: Path) -> None:
    """CONTRACTS 4.9, skills: preload_skills are stored with the session."""
    make(tmp_path)
    store = MemoryStore()
    build = SessionBuildOptions(preload_skills=("notes",))
    skills = read_folders([tmp_path])
    from runtime.service import RealmSessionService

    service = RealmSessionService(store, skills=skills)
    request = CreateSessionRequest("sim:echo", initial_turn=InitialTurnPolicy.DEFER, build=build)
    made = await service.create_session(request)
    again = RealmSessionService(store, skills=skills).realm
    assert again.configure is not None
    config = again.configure(again.state.head(made.session_id))
    assert "Be short" in config.instructions
    assert [tool.spec.name for tool in config.toolbox] == ["load_skill"]


async def test_a_reference_survives_the_process_and_its_checkpoint() -> None:
    """CONTRACTS 4.9, skills: a turn that is taken up again has the skills it was sent with."""
    store = MemoryStore()
    ports = counting_ports()
    realm = make_realm(store, ports=ports)
    session_id = await new_session(realm)
    realm.inputs.accept(session_id, "hello", skills=("notes",))
    plain = realm.inputs.accept(session_id, "hello")
    assert plain.ticket is not None
    await plain.ticket.wait()
    for checkpoint in (False, True):
        if checkpoint:
            await realm.checkpoint()
        realm = make_realm(store, ports=counting_ports(100))
        inputs = realm.state.head(session_id).inputs
        assert inputs is not None
        assert [each.skills for each in inputs.values()] == [("notes",), ()]


def test_a_skill_that_is_gone_is_said_to_be() -> None:
    told = Skills().added("Help.", ["notes", "notes"])
    assert told == "Help.\n\nThe skill 'notes', which you were to use, is not there any more."
