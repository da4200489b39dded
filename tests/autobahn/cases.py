"""The cases of the Autobahn test suite (https://github.com/crossbario/autobahn-testsuite), loaded into Python 3.

The suite is published for Python 2 only, and its runner needs a framework of that time. The cases themselves are plain
classes which use little of a WebSocket client (fuzzer.py). They are read from the published package, and changed only where
Python 3 has another syntax. A text of Python 2 is a string of bytes: here it is a `str` of the characters 0 to 255.
"""

import codecs
import importlib.abc
import importlib.util
import re
import sys
import types
import zipfile

DIRECTORY = "autobahntestsuite/case/"

# Groups 12 and 13 are compression, which a server may decline. Their modules need files and packages of Python 2.
LEFT_OUT = ("case12_x_x", "case13_x_x", "case9_9_1")

# What has another syntax or meaning in Python 3.
REPLACED = (
    (re.compile(r"\bxrange\b"), "range"),
    (re.compile(r"\bunichr\b"), "chr"),
    (re.compile(r"^(\s*)print\b.*$", re.M), r"\1pass"),
    # The bases of a class, in an order that Python 3 rejects.
    (re.compile(r"\(object, Case, \)"), "(Case,)"),
    # The number of whole fragments.
    (re.compile(r"(len\(self\.payload\)) / "), r"\1 // "),
    # Only descriptions show payloads in hexadecimal digits.
    (re.compile(r"binascii\.b2a_hex\b"), "repr"),
)


class Protocol:
    """The constants of the client that cases refer to."""

    STATE_CLOSED, STATE_CONNECTING, STATE_CLOSING, STATE_OPEN = range(4)
    MESSAGE_TYPE_TEXT, MESSAGE_TYPE_BINARY = 1, 2
    CLOSE_STATUS_CODE_NORMAL = 1000
    CLOSE_STATUS_CODE_PROTOCOL_ERROR = 1002
    CLOSE_STATUS_CODE_INVALID_PAYLOAD = 1007


class Validator:
    """UTF-8 in pieces, with the result that cases expect: whether it is valid, and whether it ends after a character."""

    def __init__(self):
        self.reset()

    def reset(self):
        self.decoder = codecs.getincrementaldecoder("utf-8")()

    def validate(self, text):
        try:
            self.decoder.decode(text.encode("latin-1"))
        except UnicodeDecodeError:
            return False, False
        return True, self.decoder.getstate()[0] == b""


class Finder(importlib.abc.Loader):
    """Imports the modules of the cases from the package."""

    def __init__(self, wheel):
        with zipfile.ZipFile(wheel) as files:
            names = [name for name in files.namelist() if name.startswith(DIRECTORY) and name.endswith(".py")]
            self.sources = {name[len(DIRECTORY) : -3]: files.read(name).decode("latin-1") for name in names}

    def find_spec(self, name, path=None, target=None):
        return importlib.util.spec_from_loader(name, self) if name in self.sources else None

    def create_module(self, spec):
        return None

    def exec_module(self, module):
        source = self.sources[module.__name__]
        for pattern, by in REPLACED:
            source = pattern.sub(by, source)
        exec(compile(source, module.__name__, "exec"), module.__dict__)


def load(wheel):
    """Returns the classes of all cases but those of compression, by their numbers: `1.1.1` and so on."""
    for name, members in (
        ("autobahn", {}),
        ("autobahn.websocket", {}),
        ("autobahn.websocket.protocol", {"WebSocketProtocol": Protocol}),
        ("autobahn.websocket.utf8validator", {"Utf8Validator": Validator}),
    ):
        sys.modules[name] = types.ModuleType(name)
        sys.modules[name].__dict__.update(members)
    finder = Finder(wheel)
    sys.meta_path.append(finder)
    case = __import__("case").Case
    # The original compares serialized forms.
    case.compare = lambda self, one, other: one == other
    names = [name for name in finder.sources if re.fullmatch(r"case\d.*", name) and name not in LEFT_OUT]
    found = {}
    for name in names:
        members = vars(__import__(name)).values()
        classes = [one for member in members for one in (member if isinstance(member, list) else [member])]
        for one in classes:
            if isinstance(one, type) and issubclass(one, case) and one is not case and hasattr(one, "DESCRIPTION"):
                found[one.__name__.removeprefix("Case").replace("_", ".")] = one
    key = lambda number: [int(part) for part in number.split(".")]
    return {number: found[number] for number in sorted(found, key=key)}
