"""The codec of everything that is not written every turn.

Owns: one strict cattrs converter and the pair of functions it gives for a class. Must not: be used
on the hot path (see `runtime.records`).

Strict means: an unknown key, a missing key or a value of another type is an error, because cattrs
by default would drop the key and take "7" for a number, and a journal must not guess.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar, get_args

import msgpack

from runtime.messages import Message, Usage
from runtime.session import Session, SessionSpec

if TYPE_CHECKING:
    from cattrs import Converter

T = TypeVar("T")


@functools.cache
def converter() -> Converter:
    """The one converter, made on first use."""
    from cattrs import Converter
    from cattrs.gen import make_dict_unstructure_fn, override

    made = Converter(forbid_extra_keys=True, detailed_validation=False)
    # As in `pack_usage`: what is written without caches or money has the bytes it always had.
    omitted = override(omit_if_default=True)
    shorter = make_dict_unstructure_fn(
        Usage, made, cached_input_tokens=omitted, cost_nano_usd=omitted, priced_calls=omitted
    )
    made.register_unstructure_hook(Usage, shorter)
    for primitive in (str, int, bool, float, bytes):
        made.register_structure_hook(primitive, _exactly(primitive))
    made.register_structure_hook_factory(
        lambda kind: getattr(kind, "__origin__", None) is tuple, lambda kind: _a_tuple(made, kind)
    )
    # What was not given is not stored, so that a field of later versions changes no stored spec.
    made.register_unstructure_hook(
        SessionSpec,
        make_dict_unstructure_fn(
            SessionSpec,
            made,
            fallback=omitted,
            budget=omitted,
            tools=omitted,
            preload_skills=omitted,
            compaction=omitted,
            peer=omitted,
            provenance=omitted,
            overrides=omitted,
            host_mode=omitted,
            price=omitted,
            approve=omitted,
        ),
    )
    made.register_unstructure_hook(
        Session, make_dict_unstructure_fn(Session, made, external_id=omitted)
    )
    made.register_structure_hook_func(lambda kind: kind == Sequence[Message], _no_messages)
    return made


def _a_tuple(made: Converter, kind: Any) -> Callable[[Any, Any], Any]:
    """Items of one kind, from a list; text is no list of texts."""
    item = get_args(kind)[0]

    def structure(value: Any, _: Any) -> tuple[Any, ...]:
        if not isinstance(value, list | tuple):
            raise ValueError(f"expected a list, found {value!r}")
        return tuple(made.structure(each, item) for each in value)

    return structure


def _no_messages(value: Any, _: Any) -> tuple[Message, ...]:
    """A union of classes has no cold form: whoever stores a session packs its messages apart."""
    if value:
        raise ValueError("messages do not go through this codec")
    return ()


def _exactly(primitive: type) -> Callable[[Any, Any], Any]:
    def structure(value: Any, _: Any) -> Any:
        if type(value) is not primitive and not (primitive is float and type(value) is int):
            raise ValueError(f"expected {primitive.__name__}, found {value!r}")
        return value

    return structure


def cold_codec(cls: type, *omitted: str) -> tuple[Callable[[Any], bytes], Callable[[bytes], Any]]:
    """Functions that pack an instance of attrs class `cls` to bytes and back.

    Fields in `omitted` are not stored while they have their default. The unpacking one raises
    `ValueError` for bytes that do not fit the class exactly.
    """

    if omitted:
        _omit(cls, omitted)

    def pack(value: Any) -> bytes:
        return msgpack.packb(converter().unstructure(value, unstructure_as=cls))

    def unpack(payload: bytes) -> Any:
        return structured(msgpack.unpackb(payload), cls)

    return pack, unpack


def _omit(cls: type, names: Sequence[str]) -> None:
    from cattrs.gen import make_dict_unstructure_fn, override

    made = converter()
    chosen: Any = dict.fromkeys(names, override(omit_if_default=True))
    made.register_unstructure_hook(cls, make_dict_unstructure_fn(cls, made, **chosen))


def structured(value: Any, cls: type[T]) -> T:
    """The instance of attrs class `cls` that unpacked `value` stands for.

    Raises:
        ValueError: it does not fit the class exactly.
    """
    from cattrs.errors import ForbiddenExtraKeysError

    try:
        return converter().structure(value, cls)
    except (LookupError, TypeError, AttributeError, ForbiddenExtraKeysError) as error:
        raise ValueError(f"not a {cls.__name__}: {error!r}") from error
