"""Whether the import of one module changes what others have defined.

Some packages replace functions of others, or methods of their classes, when they are imported. A
source tree that does not import them must not get that from a template that has.

No code of these modules is run by looking at them: values are compared by identity only, and no
attribute is asked for, since modules and classes may compute theirs.
"""

from __future__ import annotations

import sys
from operator import is_, itemgetter
from types import ModuleType

from hookd.failures import qualified_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Dict, List, Mapping, Tuple

# Past what a module or a metaclass may have put in the way.
_raw: Any = ModuleType.__dict__
_module_namespace: Callable[[object], Dict[str, Any]] = _raw["__dict__"].__get__
_class_namespace = type.__dict__["__dict__"].__get__
_class_flags = type.__dict__["__flags__"].__get__
_class_bases = type.__dict__["__mro__"].__get__

# Of type.__flags__. A class that is none of the former, or is the latter, cannot be changed.
HEAP_TYPE = 1 << 9
IMMUTABLE_TYPE = 1 << 8


class Kinds:
    """Tells functions, classes and all that is like them from data: it can be called, or is found
    through a class as a method or a property is.
    """

    def __init__(self) -> None:
        # By id, as the hash of a class may be its own code. The class is held, so that its id
        # stays its own.
        self._known: Dict[int, Tuple[type, bool]] = {}

    def is_definition(self, value: object) -> bool:
        """Whether `value` is no data."""
        kind = type(value)
        known = self._known.get(id(kind))
        if known is None:
            found = any(
                name in _class_namespace(base)
                # None: a class in C that was not made ready (unicodedata has one in Python 3.8).
                for base in _class_bases(kind) or ()
                for name in ("__get__", "__call__")
            )
            known = self._known[id(kind)] = kind, found
        return known[1]


class Namespace:
    """The definitions in a module or a class, as they were when this was made."""

    __slots__ = ("_label", "_mapping", "_names", "_read", "_size", "_values")

    def __init__(self, label: str, mapping: Mapping[str, Any], kinds: Kinds) -> None:
        self._label = label
        self._mapping = mapping
        self._size = len(mapping)
        found = [
            (name, value)
            for name, value in list(mapping.items())
            if type(name) is str and kinds.is_definition(value)
        ]
        self._names = [name for name, _ in found]
        self._values = [value for _, value in found]
        self._read: Callable[[Any], Any] = tuple
        if found:
            # With a single name it would return the value, not a tuple of it.
            self._read = itemgetter(*self._names, self._names[0])
            self._values.append(self._values[0])

    def is_same(self) -> bool:
        """Whether nothing was replaced, removed or added. There may be thousands to look at."""
        if len(self._mapping) != self._size:
            return False
        try:
            return not self._names or all(map(is_, self._values, self._read(self._mapping)))
        except KeyError:
            return False

    def replaced(self) -> List[str]:
        """The names that mean something else by now, or nothing."""
        missing = object()
        return [
            self._dotted(name)
            for name, value in zip(self._names, self._values)
            if self._mapping.get(name, missing) is not value
        ]

    def added(self, kinds: Kinds) -> List[str]:
        """The names of definitions that were none, or were not there."""
        return [
            self._dotted(name)
            for name, value in list(self._mapping.items())
            if name not in self._names and kinds.is_definition(value)
        ]

    def _dotted(self, name: str) -> str:
        return "{}.{}".format(self._label, name)

    def definitions(self) -> List[Any]:
        """The values."""
        return self._values

    def renewed(self, kinds: Kinds) -> Namespace:
        """The same as it is now."""
        return Namespace(self._label, self._mapping, kinds)


class Definitions:
    """What all loaded modules have defined."""

    def __init__(self) -> None:
        self._kinds = Kinds()
        self._modules: Dict[str, object] = {}
        self._in_modules: List[Namespace] = []
        self._in_classes: List[Namespace] = []
        self._seen: Dict[int, type] = {}
        """The classes that were looked at, by id."""

    def remember(self) -> None:
        """Take down what was imported since the last time."""
        for name, module in list(sys.modules.items()):
            if name not in self._modules:
                self._modules[name] = module
                try:
                    mapping = _module_namespace(module)
                except TypeError:
                    # Somebody put an object of another kind in its place.
                    continue
                namespace = Namespace(str.__str__(name), mapping, self._kinds)
                self._in_modules.append(namespace)
                self._remember_classes(namespace)

    def _remember_classes(self, namespace: Namespace) -> None:
        for value in namespace.definitions():
            if issubclass(type(value), type) and id(value) not in self._seen:
                self._seen[id(value)] = value
                flags = _class_flags(value)
                if flags & HEAP_TYPE and not flags & IMMUTABLE_TYPE:
                    inner = Namespace(qualified_name(value), _class_namespace(value), self._kinds)
                    self._in_classes.append(inner)
                    # Classes may hold others.
                    self._remember_classes(inner)

    def changes(self) -> List[str]:
        """The dotted names of what was replaced, removed, or added to a class, since then.

        A module may get new names: those of its submodules, as a rule.
        """
        found = [
            name for name, module in self._modules.items() if sys.modules.get(name) is not module
        ]
        for position, namespace in enumerate(self._in_modules):
            if not namespace.is_same():
                found += namespace.replaced()
                self._in_modules[position] = namespace.renewed(self._kinds)
                self._remember_classes(self._in_modules[position])
        for position, namespace in enumerate(self._in_classes):
            if not namespace.is_same():
                found += namespace.replaced() + namespace.added(self._kinds)
                self._in_classes[position] = namespace.renewed(self._kinds)
        return found
