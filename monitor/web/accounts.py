"""Passwords and tokens: a file of their own beside the log, readable by the station only."""

from __future__ import annotations

import fcntl
import hashlib
import hmac
import os
import secrets
import unicodedata
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from enum import IntEnum
from functools import cached_property
from pathlib import Path

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from pydantic import BaseModel, ConfigDict, ValidationError

from monitor.core.domain import TrapwatchError, iso_utc
from monitor.system.files import write_whole

FILE_NAME = "accounts.json"
LONGEST_NAME, SHORTEST_PASSWORD, LONGEST_PASSWORD = 80, 10, 1024
TOKEN_MARK = "trapwatch_"
HASHER = PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1)
"""OWASP's second set for argon2id (19 MiB, two passes, one lane): 26 ms on the machine it was
measured on (EPYC, one core); a board of a tenth of its speed needs a quarter of a second."""


class Role(IntEnum):
    """What somebody may do; each may do what those below may."""

    VIEWER = 1  # look at sightings and charts
    REVIEWER = 2  # label, flag, have hidden frames shown
    ADMIN = 3  # species list, models


class AccountsDamaged(TrapwatchError):
    """The accounts cannot be read: nobody gets in until somebody repairs the file."""


class AccountRefused(TrapwatchError):
    """An account cannot be made, changed or removed like this."""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class _Account(_Frozen):
    name: str
    role: Role


class Person(_Account):
    """Somebody with a password."""

    password: str  # argon2id, with its parameters


class Token(_Account):
    """A program with a key. The key itself is shown once and kept nowhere."""

    sha256: str
    created_at: str  # ISO 8601, UTC
    expires_at: str | None = None


class Book(_Frozen):
    """The whole file."""

    secret: str = ""  # hex; signs the sessions
    people: tuple[Person, ...] = ()
    tokens: tuple[Token, ...] = ()


class Accounts:
    """Who may come in. Kept in `accounts.json` (mode 0600), never in config.yaml or the log.

    Safe to share between threads; what another process writes is seen at the next question.

    Args:
        folder: where the log lies.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / FILE_NAME
        self._known: tuple[tuple[int, ...] | None, Book] = (None, Book())

    def exist(self) -> bool:
        """True once anybody or anything has an account. Raises AccountsDamaged, as all below."""
        book = self.book()
        return bool(book.people or book.tokens)

    def book(self) -> Book:
        """All accounts, as the file says now; an empty book if there is no file."""
        stamp = self._stamp()
        if stamp is None or stamp != self._known[0]:
            self._known = (stamp, Book() if stamp is None else self._read())
        return self._known[1]

    def secret(self) -> bytes:
        """What sessions are signed with; made when it is first asked for."""
        book = self.book()
        if not book.secret:
            book = self._change(lambda before: before)
        return bytes.fromhex(book.secret)

    def person(self, name: str) -> Person | None:
        """Somebody by name; capitals do not matter, tablets write them unasked."""
        key = name_key(name)
        return next((p for p in self.book().people if name_key(p.name) == key), None)

    def check_password(self, name: str, password: str) -> Person | None:
        """The person, if that is their password. An unknown name costs the same time."""
        person = self.person(name)
        kept = person.password if person is not None else self._password_of_nobody
        try:
            HASHER.verify(kept, _as_typed(password))
        except (VerificationError, InvalidHashError):
            return None
        return person

    def token(self, text: str, now: datetime) -> Token | None:
        """The token that reads like this, unless it has expired."""
        digest, found = _sha256(text), None
        for token in self.book().tokens:
            if hmac.compare_digest(digest, token.sha256):
                found = token
        if found is None or (found.expires_at is not None and found.expires_at <= iso_utc(now)):
            return None
        return found

    def fingerprint(self, person: Person) -> str:
        """Changes with the password: sessions carry it, and end when it does."""
        return hmac.new(self.secret(), person.password.encode(), "sha256").hexdigest()[:32]

    def set_password(self, name: str, password: str, role: Role | None = None) -> Person:
        """Make an account, or give one another password; sessions begun with the old one end.

        Args:
            role: None keeps the role; the first person becomes an admin, others reviewers.

        Raises:
            AccountRefused: a name or a password that cannot be used.
        """
        name = usable_name(name)
        hashed = HASHER.hash(_as_typed(usable_password(password)))

        def change(book: Book) -> Book:
            if any(name_key(t.name) == name_key(name) for t in book.tokens):
                raise AccountRefused(f"'{name}' is the name of a token; choose another")
            known = next((p for p in book.people if name_key(p.name) == name_key(name)), None)
            given = role or (known.role if known else Role.REVIEWER if book.people else Role.ADMIN)
            made = Person(name=known.name if known else name, role=given, password=hashed)
            others = tuple(p for p in book.people if p is not known)
            return book.model_copy(update={"people": (*others, made)})

        return self._change(change).people[-1]

    def add_token(self, name: str, role: Role, now: datetime, days: float | None) -> str:
        """Make a token. Returns its text, which cannot be had again.

        Raises:
            AccountRefused: the name is taken or cannot be used.
        """
        name = usable_name(name)
        text = TOKEN_MARK + secrets.token_urlsafe(32)
        ends = iso_utc(now + timedelta(days=days)) if days is not None else None
        token = Token(
            name=name, role=role, sha256=_sha256(text), created_at=iso_utc(now), expires_at=ends
        )

        def change(book: Book) -> Book:
            accounts: tuple[_Account, ...] = (*book.people, *book.tokens)
            if any(name_key(account.name) == name_key(name) for account in accounts):
                raise AccountRefused(
                    f"'{name}' is taken; choose another, or first: trapwatch web remove"
                )
            return book.model_copy(update={"tokens": (*book.tokens, token)})

        self._change(change)
        return text

    def remove(self, name: str) -> None:
        """Take an account or a token away; its sessions end. Raises AccountRefused: unknown."""
        key = name_key(name)

        def change(book: Book) -> Book:
            people = tuple(p for p in book.people if name_key(p.name) != key)
            tokens = tuple(t for t in book.tokens if name_key(t.name) != key)
            if (people, tokens) == (book.people, book.tokens):
                raise AccountRefused(f"nobody here is called '{name}'; see: trapwatch web people")
            return book.model_copy(update={"people": people, "tokens": tokens})

        self._change(change)

    @cached_property
    def _password_of_nobody(self) -> str:
        return HASHER.hash(secrets.token_hex())

    def _stamp(self) -> tuple[int, ...] | None:
        try:
            facts = os.stat(self.path)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise AccountsDamaged(f"{self.path} cannot be read: {error.strerror}") from None
        return (facts.st_ino, facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns)

    def _read(self) -> Book:
        """The file's book. What is wrong is told by its place: never by what stands there."""
        try:
            book = Book.model_validate_json(self.path.read_bytes())
            if len(bytes.fromhex(book.secret)) < 32:
                raise AccountsDamaged(f"{self.path} is damaged: it has no secret. {_ADVICE}")
        except OSError as error:
            raise AccountsDamaged(f"{self.path} cannot be read: {error.strerror}") from None
        except ValidationError as error:
            place = ".".join(str(part) for part in error.errors()[0]["loc"]) or "its start"
            raise AccountsDamaged(f"{self.path} is damaged, at {place}. {_ADVICE}") from None
        except ValueError:
            raise AccountsDamaged(f"{self.path} is damaged, at secret. {_ADVICE}") from None
        return book

    def _change(self, change: Callable[[Book], Book]) -> Book:
        with self._alone():
            self._known = (None, Book())  # whatever another process wrote meanwhile counts
            before = self.book()
            after = change(before)
            if not after.secret:
                after = after.model_copy(update={"secret": secrets.token_hex(32)})
            content = after.model_dump_json(indent=1).encode() + b"\n"
            if after != before:
                self._keep(content)
        return after

    def _keep(self, content: bytes) -> None:
        try:
            write_whole(content, self.path, mode=0o600)
            if os.geteuid() == 0:  # `sudo trapwatch web password`: the service must read it
                folder = os.stat(self.path.parent)
                os.chown(self.path, folder.st_uid, folder.st_gid)
        except OSError as error:
            raise AccountRefused(f"{self.path} cannot be written: {error.strerror}") from None

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """One writer at a time, over all processes. A lock on the folder leaves no file behind."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            folder = os.open(self.path.parent, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise AccountRefused(f"{self.path.parent} cannot be used: {error.strerror}") from None
        try:
            fcntl.flock(folder, fcntl.LOCK_EX)
            yield
        finally:
            os.close(folder)


_ADVICE = (
    "Bring it back from a copy, or remove it and set the passwords anew: trapwatch web password"
)


def usable_name(text: str) -> str:
    """A name as it is recorded. Raises AccountRefused."""
    name = unicodedata.normalize("NFC", text).strip()
    if not name or len(name) > LONGEST_NAME or not name.isprintable():
        raise AccountRefused(
            f"a name has 1 to {LONGEST_NAME} letters, digits, spaces or other visible signs"
        )
    return name


def usable_password(text: str) -> str:
    """The password, if it is fit to be one. Raises AccountRefused."""
    if not SHORTEST_PASSWORD <= len(text) <= LONGEST_PASSWORD:
        raise AccountRefused(
            f"a password has at least {SHORTEST_PASSWORD} characters; three or four words are good"
        )
    return text


def _as_typed(password: str) -> bytes:
    """Keyboards write é as one sign or as two; both are the same password."""
    return unicodedata.normalize("NFC", password).encode(errors="surrogatepass")


def name_key(name: str) -> str:
    """Equal for names that are the same to a person."""
    return unicodedata.normalize("NFC", name).strip().casefold()


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()
