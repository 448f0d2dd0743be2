"""Passwords and tokens: what is kept, who may come in, and the commands that say so."""

from __future__ import annotations

import hashlib
import io
import json
import multiprocessing
import os
import stat
import sys
import time
from datetime import timedelta
from pathlib import Path

import pytest
from logbook import NOW

from monitor.cli import main
from monitor.web.accounts import (
    HASHER,
    AccountRefused,
    Accounts,
    AccountsDamaged,
    Role,
    usable_name,
)
from monitor.web.rate_limit import FORGOTTEN_SECONDS, MOST_KEPT, Key, Rule, Waits, wait_seconds
from monitor.web.sessions import Kind, Sessions, new_session

GOOD = "three wet badgers"


@pytest.fixture
def accounts(tmp_path: Path) -> Accounts:
    return Accounts(tmp_path / "data")


def test_the_file_is_readable_by_its_owner_only_and_holds_no_secret_in_the_clear(accounts) -> None:
    old = os.umask(0)
    try:
        accounts.set_password("Ana", GOOD)
    finally:
        os.umask(old)
    token = accounts.add_token("export", Role.VIEWER, NOW, None)
    text = accounts.path.read_text()
    assert stat.S_IMODE(accounts.path.stat().st_mode) == 0o600
    assert os.listdir(accounts.path.parent) == [accounts.path.name]
    assert GOOD not in text
    assert token not in text
    assert hashlib.sha256(token.encode()).hexdigest() in text
    assert "$argon2id$v=19$m=19456,t=2,p=1$" in text


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_what_root_writes_the_service_can_read(accounts) -> None:
    accounts.path.parent.mkdir()
    os.chown(accounts.path.parent, 65_534, 65_534)  # as StateDirectory= belongs to the service
    accounts.set_password("Ana", GOOD)
    facts = accounts.path.stat()
    assert (facts.st_uid, facts.st_gid, stat.S_IMODE(facts.st_mode)) == (65_534, 65_534, 0o600)


def test_the_right_password_opens_and_no_other_does(accounts) -> None:
    accounts.set_password("Ana", GOOD)
    assert accounts.check_password("Ana", GOOD) is not None
    assert accounts.check_password(" ANA ", GOOD) is not None  # a tablet's capitals
    for name, password in (("Ana", GOOD + " "), ("Ana", ""), ("Ben", GOOD), ("", "")):
        assert accounts.check_password(name, password) is None


def test_letters_with_accents_count_the_same_from_every_keyboard(accounts) -> None:
    accounts.set_password("Zoë", "le hérisson dort")
    assert accounts.check_password("Zoe\u0308", "le he\u0301risson dort") is not None


def test_an_unknown_name_costs_the_time_of_a_wrong_password(accounts) -> None:
    accounts.set_password("Ana", GOOD)

    def fastest(name: str) -> float:
        times = []
        for _ in range(7):
            before = time.process_time()
            accounts.check_password(name, "wrong wrong")
            times.append(time.process_time() - before)
        return min(times)

    fastest("Ana")
    known, unknown = fastest("Ana"), fastest("Nobody")
    assert 0.5 < known / unknown < 2
    assert known > 0.002


def test_the_first_person_is_an_admin_others_review_and_a_new_password_keeps_the_role(
    accounts,
) -> None:
    assert accounts.set_password("Ana", GOOD).role is Role.ADMIN
    assert accounts.set_password("Ben", GOOD).role is Role.REVIEWER
    assert accounts.set_password("Cy", GOOD, Role.VIEWER).role is Role.VIEWER
    assert accounts.set_password("cy", GOOD + "!").role is Role.VIEWER
    assert [(p.name, p.role) for p in accounts.book().people] == [
        ("Ana", Role.ADMIN),
        ("Ben", Role.REVIEWER),
        ("Cy", Role.VIEWER),
    ]


@pytest.mark.parametrize("name", ["", "  ", "a" * 81, "Ana\n", "A\x1b[31m", "\u202eana", "a\x00"])
def test_names_that_would_mislead_are_refused(name) -> None:
    if name.strip().isprintable() and 0 < len(name.strip()) <= 80:
        assert usable_name(name) == name.strip()  # white space around a name is left out
    else:
        with pytest.raises(AccountRefused):
            usable_name(name)


def test_short_passwords_are_refused(accounts) -> None:
    with pytest.raises(AccountRefused, match="at least 10 characters"):
        accounts.set_password("Ana", "badger")
    assert not accounts.exist()


def test_a_token_is_known_until_it_expires_or_is_removed(accounts) -> None:
    forever = accounts.add_token("export", Role.VIEWER, NOW, None)
    brief = accounts.add_token("visit", Role.REVIEWER, NOW, days=2)
    assert accounts.token(forever, NOW + timedelta(days=9999)).name == "export"
    assert accounts.token(brief, NOW + timedelta(days=1.99)).role is Role.REVIEWER
    assert accounts.token(brief, NOW + timedelta(days=2)) is None
    for guess in ("", "trapwatch_", forever[:-1], forever.upper(), "ä", "\udc80"):
        assert accounts.token(guess, NOW) is None
    accounts.remove("export")
    assert accounts.token(forever, NOW) is None


def test_nobody_can_be_mistaken_for_a_program(accounts) -> None:
    accounts.set_password("Ana", GOOD)
    accounts.add_token("export", Role.VIEWER, NOW, None)
    for name in ("ana", "Export"):
        with pytest.raises(AccountRefused, match="taken"):
            accounts.add_token(name, Role.ADMIN, NOW, None)
    with pytest.raises(AccountRefused, match="name of a token"):
        accounts.set_password("EXPORT", GOOD)
    with pytest.raises(AccountRefused, match="nobody here is called 'Ben'"):
        accounts.remove("Ben")


def test_what_another_process_writes_is_seen_at_the_next_question(accounts) -> None:
    accounts.set_password("Ana", GOOD)
    serving = Accounts(accounts.path.parent)
    before = serving.fingerprint(serving.person("Ana"))
    accounts.set_password("Ana", GOOD + "!")
    assert serving.check_password("Ana", GOOD) is None
    assert serving.fingerprint(serving.person("Ana")) != before
    accounts.remove("Ana")
    assert not serving.exist()


def _make_token(folder: Path, number: int) -> None:
    Accounts(folder).add_token(f"token {number}", Role.VIEWER, NOW, None)


def test_two_writers_at_once_lose_nothing(accounts) -> None:
    spawn = multiprocessing.get_context("fork")
    folder = accounts.path.parent
    writers = [spawn.Process(target=_make_token, args=(folder, n)) for n in range(8)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert len(accounts.book().tokens) == 8


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"\xff\xfe",
        b"[]",
        b"{}",
        b'{"secret": "00"}',
        b'{"secret": "zz"}',
        b'{"secret": "%s", "people": [{"name": "Ana"}]}' % (b"0" * 64),
        b'{"secret": "%s", "people": [], "doors": 1}' % (b"0" * 64),
    ],
)
def test_a_damaged_file_lets_nobody_in_and_tells_no_secret(accounts, content) -> None:
    accounts.path.parent.mkdir()
    accounts.path.write_bytes(content)
    for ask in (
        accounts.exist,
        accounts.secret,
        lambda: accounts.token("x", NOW),
        lambda: accounts.check_password("Ana", GOOD),
        lambda: accounts.set_password("Ana", GOOD),
    ):
        with pytest.raises(AccountsDamaged, match="is damaged") as told:
            ask()
        assert "0000" not in str(told.value)
    assert accounts.path.read_bytes() == content


def test_a_file_that_cannot_be_read_lets_nobody_in(accounts) -> None:
    accounts.path.mkdir(parents=True)
    with pytest.raises(AccountsDamaged, match="cannot be read: Is a directory"):
        accounts.exist()


def test_a_hash_that_is_none_opens_to_nobody(accounts) -> None:
    accounts.set_password("Ana", GOOD)
    book = json.loads(accounts.path.read_text())
    book["people"][0]["password"] = GOOD
    accounts.path.write_text(json.dumps(book))
    assert accounts.check_password("Ana", GOOD) is None


def test_the_costs_are_those_that_a_small_board_bears() -> None:
    assert (HASHER.time_cost, HASHER.memory_cost, HASHER.parallelism) == (2, 19 * 1024, 1)


SIGNED = Sessions(b"s" * 32, days=2, is_tls=False)


def test_a_session_reads_back_as_it_was_written() -> None:
    session = new_session(Kind.PERSON, 1000.0, "Ana; Path=/evil\r\nX: y", "f" * 32)
    header = SIGNED.header(session)
    assert "\r" not in header
    assert header.endswith("; Path=/; Max-Age=172800; HttpOnly; SameSite=Lax")
    assert SIGNED.read(header.split("=", 1)[1].split(";")[0], 1000.0) == session


def test_over_https_the_cookie_belongs_to_this_host_alone() -> None:
    header = Sessions(b"s" * 32, 2, is_tls=True).header(None)
    assert header.startswith("__Host-trapwatch_")
    assert header.endswith("; Secure")


def test_a_session_ends_when_it_was_not_used_and_is_renewed_while_it_is() -> None:
    session = new_session(Kind.PERSON, 0.0, "Ana")
    value = SIGNED.header(session).split("=", 1)[1].split(";")[0]
    assert SIGNED.read(value, 2 * 86_400.0) == session
    assert SIGNED.read(value, 2 * 86_400.0 + 1) is None
    assert not SIGNED.is_due(session, 3600.0)
    assert SIGNED.is_due(session, 44_000.0)
    assert SIGNED.is_due(session, -5.0)  # the clock was set back
    assert SIGNED.renewed(session, 44_000.0).identity == session.identity


def test_forged_sessions_are_none() -> None:
    session = new_session(Kind.PERSON, 0.0, "Ana")
    value = SIGNED.header(session).split("=", 1)[1].split(";")[0]
    theirs = Sessions(b"t" * 32, 2, is_tls=False).header(session).split("=", 1)[1].split(";")[0]
    payload, _, signature = value.rpartition(".")
    tampered = f"{payload[:-2]}AA.{signature}"
    for forged in (theirs, tampered, payload, "", ".", "a.b", value + "x", value[:-1], "\xff"):
        assert SIGNED.read(forged, 0.0) is None


class Clock:
    """Seconds that a test moves."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_waits_grow_and_are_bounded() -> None:
    rule = Rule(free=3, longest_seconds=60)
    assert [wait_seconds(n, rule) for n in (0, 2, 3, 4, 5, 8, 9, 5000)] == [
        0,
        0,
        1,
        2,
        4,
        32,
        60,
        60,
    ]


def test_after_the_free_tries_each_next_one_waits_and_a_success_ends_it() -> None:
    clock, rule = Clock(), Rule(free=3, longest_seconds=60)
    waits, key, other = Waits(clock), Key(rule, ("name", "ana")), Key(rule, ("name", "ben"))
    assert [waits.start([key]) for _ in range(4)] == [0, 0, 0, 1]
    assert waits.start([other]) == 0
    clock.now = 1.0
    assert [waits.start([key]), waits.start([key])] == [0, 2]
    clock.now = 3.0
    assert waits.start([key]) == 0
    waits.succeeded([key])
    assert [waits.start([key]) for _ in range(4)] == [0, 0, 0, 1]
    clock.now += FORGOTTEN_SECONDS + 1
    assert [waits.start([key]) for _ in range(4)] == [0, 0, 0, 1]


def test_a_success_of_ones_own_does_not_free_an_address_for_guessing_others() -> None:
    rule = Rule(free=3, longest_seconds=60)
    waits, address = Waits(Clock()), Key(rule, ("address", "10.0.0.9"))
    for name in ("ana", "ben"):
        assert waits.start([Key(rule, ("name", name)), address]) == 0
    assert waits.start([Key(rule, ("name", "mine")), address]) == 0
    waits.succeeded([Key(rule, ("name", "mine"))], uncount=[address])
    assert waits.start([address]) == 0
    assert waits.start([address]) == 1


def test_memory_is_bounded_however_many_names_are_tried() -> None:
    waits, rule = Waits(Clock()), Rule(3, 60)
    for number in range(MOST_KEPT + 500):
        waits.start([Key(rule, ("name", str(number)))])
    assert len(waits) == MOST_KEPT


class Commands:
    """`trapwatch web …` on a station of its own."""

    def __init__(self, config: Path, monkeypatch, capfd) -> None:
        self.config, self._patch, self._capture = config, monkeypatch, capfd
        self.accounts = Accounts(config.parent / "data")

    def run(self, *words: str, stdin: str = "") -> tuple[int, str, str]:
        self._patch.setattr(sys, "argv", ["trapwatch", "web", *words, "--config", str(self.config)])
        self._patch.setattr(sys, "stdin", io.StringIO(stdin))
        self._capture.readouterr()
        try:
            main()
            code = 0
        except SystemExit as error:
            code = int(error.code or 0)
        return code, *self._capture.readouterr()


@pytest.fixture
def web(config, monkeypatch, capfd) -> Commands:
    return Commands(config, monkeypatch, capfd)


def test_a_password_from_stdin_makes_an_account(web) -> None:
    code, out, err = web.run("password", "Ana", "--stdin", stdin=GOOD + "\n")
    assert (code, out) == (0, "")
    assert "Ana may log in, as admin" in err
    assert web.accounts.check_password("Ana", GOOD) is not None
    code, _, err = web.run("password", "Ben", "--role", "viewer", "--stdin", stdin=GOOD)
    assert "as viewer" in err


def test_a_password_is_asked_twice(web, monkeypatch) -> None:
    answers = iter([GOOD, GOOD + "?", GOOD, GOOD])
    monkeypatch.setattr("getpass.getpass", lambda prompt: next(answers))
    code, _, err = web.run("password", "Ana")
    assert code == 2
    assert "not the same" in err
    assert not web.accounts.exist()
    assert web.run("password", "Ana")[0] == 0
    assert web.accounts.check_password("Ana", GOOD) is not None


def test_a_password_that_is_too_short_says_how_long(web) -> None:
    code, _, err = web.run("password", "Ana", "--stdin", stdin="badger\n")
    assert code == 1
    assert "at least 10 characters" in err


def test_a_token_is_printed_once_and_alone(web) -> None:
    code, out, err = web.run("token", "export", "--days", "30")
    assert code == 0
    assert "nobody has a password: trapwatch web password" in err
    token = web.accounts.token(out.strip(), NOW)
    assert token is not None
    assert token.role is Role.VIEWER
    assert out.count("\n") == 1
    code, out, _ = web.run("people", "--json")
    assert code == 0
    (row,) = json.loads(out)
    assert row["name"] == "export"
    assert row["kind"] == "token"
    assert row["expires_at"] > row["created_at"]
    assert web.run("token", "export")[0] == 1


def test_people_are_listed_and_removed(web) -> None:
    web.accounts.set_password("Ana", GOOD)
    assert web.run("people")[1].splitlines()[1].split("\t")[:3] == ["Ana", "admin", "password"]
    code, _, err = web.run("remove", "ana")
    assert code == 0
    assert "everybody may do all" in err
    assert web.run("remove", "ana")[0] == 1


def test_options_of_the_server_do_not_go_with_a_command(web, monkeypatch, capfd) -> None:
    monkeypatch.setattr(sys, "argv", ["trapwatch", "web", "--port", "1", "people"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert "trapwatch web people" in capfd.readouterr().err
