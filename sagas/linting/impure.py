"""What differs when a body is replayed: clocks, chance, and everything outside of the saga, by full name."""

from __future__ import annotations

__all__ = ["blocks", "is_foreign", "needs_loop", "rule_for"]

_CLOCKS = frozenset(
    {
        "arrow.get", "arrow.now", "arrow.utcnow", "datetime.date.today", "datetime.datetime.now",
        "datetime.datetime.today", "datetime.datetime.utcnow", "django.utils.timezone.now", "pendulum.now",
        "pendulum.today", "time.clock_gettime", "time.clock_gettime_ns", "time.monotonic", "time.monotonic_ns",
        "time.perf_counter", "time.perf_counter_ns", "time.process_time", "time.process_time_ns", "time.thread_time",
        "time.time", "time.time_ns",
    }
)  # fmt: skip
# These take the time of now only if they are not given one.
_CLOCKS_ALONE = {"time.gmtime": 0, "time.localtime": 0, "time.ctime": 0, "time.asctime": 0, "time.strftime": 1}
_CHANCE = frozenset({"builtins.hash", "os.getrandom", "os.urandom", "random.SystemRandom", "uuid.uuid1", "uuid.uuid4"})
_CHANCE_BELOW = ("random.", "secrets.", "numpy.random.")
# These are repeatable if they are seeded.
_SEEDED = frozenset({"random.Random", "numpy.random.default_rng", "numpy.random.RandomState"})
_IO = frozenset(
    {
        "builtins.open", "builtins.input", "io.open", "os.getenv", "os.getpid", "os.getcwd", "os.listdir", "os.scandir",
        "os.walk", "os.mkdir", "os.makedirs", "os.open", "os.popen", "os.remove", "os.removedirs", "os.rename",
        "os.replace", "os.rmdir", "os.stat", "os.system", "os.unlink", "os.environ.get", "os.path.exists",
        "os.path.getmtime", "os.path.getsize", "os.path.isdir", "os.path.isfile", "pathlib.Path.cwd",
        "pathlib.Path.home",
    }
)  # fmt: skip
_PATH_METHODS = frozenset(
    {
        "exists", "glob", "is_dir", "is_file", "iterdir", "mkdir", "open", "read_bytes", "read_text", "rename",
        "replace", "rglob", "rmdir", "stat", "touch", "unlink", "write_bytes", "write_text",
    }
)  # fmt: skip
_IO_LIBRARIES = frozenset(
    {
        "aiohttp", "asyncpg", "boto3", "botocore", "ftplib", "glob", "grpc", "http", "httpx", "imaplib", "psycopg",
        "psycopg2", "pymongo", "pymysql", "redis", "requests", "shutil", "smtplib", "socket", "sqlite3", "stripe",
        "subprocess", "tempfile", "urllib3",
    }
)  # fmt: skip
_LOOPS = frozenset({"anyio", "asyncio", "curio", "trio", "uvloop"})
# Whatever these libraries give to await needs an event loop.
_FOREIGN = _LOOPS | frozenset(
    {
        "aio_pika", "aioboto3", "aiobotocore", "aiofiles", "aiohttp", "aiokafka", "aiomysql", "aioredis", "aiosmtplib",
        "aiosqlite", "anthropic", "asgiref", "asyncpg", "asyncssh", "beanie", "databases", "elasticsearch", "fastapi",
        "grpc", "httpcore", "httpx", "motor", "nats", "openai", "psycopg", "pymongo", "redis", "sqlalchemy", "sqlmodel",
        "starlette", "stripe", "tortoise", "websockets",
    }
)  # fmt: skip
_OWN_SERVICES = ("sagas.Client()", "sagas.Coordinator()")
_BLOCKING = frozenset(
    {
        "os.system", "os.wait", "os.waitpid", "socket.create_connection", "subprocess.call", "subprocess.check_call",
        "subprocess.check_output", "subprocess.getoutput", "subprocess.run", "time.sleep", "urllib.request.urlopen",
        "urllib.request.urlretrieve", "httpx.get", "httpx.post", "httpx.put", "httpx.patch", "httpx.delete",
        "httpx.request", "builtins.input",
    }
)  # fmt: skip
_VERBS = ("delete", "get", "head", "options", "patch", "post", "put", "request")
_BLOCKING_METHODS = frozenset(
    f"{client}().{verb}" for client in ("requests.Session", "requests.session", "httpx.Client") for verb in _VERBS
) | frozenset(f"requests.{verb}" for verb in _VERBS)


def rule_for(dotted: str, arguments: int) -> str | None:
    """Says which rule a call breaks in a body.

    Args:
        dotted: Full name of what is called.
        arguments: How many arguments it is given.
    """
    if dotted == "time.sleep":
        return "blocking-call"
    if dotted in _CLOCKS or arguments <= _CLOCKS_ALONE.get(dotted, -1):
        return "wall-clock"
    if _is_chance(dotted, arguments):
        return "randomness"
    return "io-in-body" if _is_io(dotted) else None


def _is_chance(dotted: str, arguments: int) -> bool:
    """Says whether a call gives something else each time."""
    if dotted in _SEEDED:
        return not arguments
    return dotted in _CHANCE or (dotted.startswith(_CHANCE_BELOW) and "()" not in dotted)


def _is_io(dotted: str) -> bool:
    """Says whether a call reads or changes something outside."""
    if dotted in _IO or dotted.startswith("urllib.request."):
        return True
    library, _, rest = dotted.partition(".")
    name = rest.rpartition(".")[2]
    if library == "pathlib":
        return name in _PATH_METHODS and rest.startswith("Path()")
    # By convention what begins with a capital is a class: making an instance or an exception reads nothing.
    return library in _IO_LIBRARIES and name[:1].islower() and not (library == "http" and "client" not in rest)


def is_foreign(dotted: str) -> bool:
    """Says whether what is awaited comes from where only an event loop can run it."""
    return dotted.partition(".")[0] in _FOREIGN or dotted.startswith(_OWN_SERVICES)


def needs_loop(dotted: str) -> bool:
    """Says whether a call, awaited or not, finds no event loop in a body."""
    library, _, rest = dotted.partition(".")
    name = rest.removesuffix("()").rpartition(".")[2]
    return library in _LOOPS and name[:1].islower()


def blocks(dotted: str) -> bool:
    """Says whether a call halts the thread that it runs in."""
    return dotted in _BLOCKING or dotted in _BLOCKING_METHODS
