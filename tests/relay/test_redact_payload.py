"""P11: of a code or its hash a shown payload holds nothing, of a token's hash eight digits, and all else."""

import json

import pytest

from assistant_store.invites.secret import hash_secret
from relay.redact_payload import redacted_payload
from tests.conftest import Stores

CODE = hash_secret("123456")
TOKEN = hash_secret("a token")
ESCAPED = "".join(f"\\u{ord(one):04x}" for one in CODE)


ODD = '{"note":"\\u00e9 \\" \\\\","a":[1.50, true,{}], "b" :null}]'


@pytest.mark.parametrize(
    ("payload", "shown"),
    [
        (f'{{"inviteCodeHash": "{CODE}"}}', '{"inviteCodeHash": "[hash]"}'),
        (f'{{"voice_code_hash":"{CODE[:9]}"}}', '{"voice_code_hash":"[hash]"}'),
        (f'{{"inviteCodeHash":"{ESCAPED}"}}', '{"inviteCodeHash":"[hash]"}'),
        (f'{{"inv\\u0069teCodeHash":"{CODE[:9]}"}}', '{"inv\\u0069teCodeHash":"[hash]"}'),
        ('{"inviteCodeHash":123456,"maxUses":1}', '{"inviteCodeHash":"[hash]","maxUses":1}'),
        (f'{{"inviteCodeHash":["{CODE[:9]}",{{"a":"{CODE[:9]}"}}],"b":"c"}}',
         '{"inviteCodeHash":["[hash]",{"[hash]":"[hash]"}],"b":"c"}'),
        (f'{{"codeHash":"{CODE}","codeHash":"x"}}', '{"codeHash":"[hash]","codeHash":"[hash]"}'),
        (f'{{"note":"see {CODE}, {CODE[:8]}…"}}', '{"note":"see [hash], [hash]"}'),
        (f'{{"tokenHash":"{TOKEN}","inviteCodeHash":null}}', f'{{"tokenHash":"{TOKEN[:8]}…","inviteCodeHash":null}}'),
        (f'{{"tokenHash":["{TOKEN}"]}}', f'{{"tokenHash":["{TOKEN[:8]}…"]}}'),
        ('{"code":"123456","voiceCodeDigits":6}', '{"code":"[hash]","voiceCodeDigits":6}'),
        (f'{{"tokenHash":"{TOKEN}","codeHash":"{CODE[:20]}', f'{{"tokenHash":"{TOKEN[:8]}…","codeHash":"[hash]'),
        (f'{{"note":"a {CODE[:20]}', '{"note":"a '),
        (f'"{{\\"inviteCodeHash\\":\\"{CODE[:9]}\\"}}"', '"{\\"inviteCodeHash\\":\\"[hash]\\"}"'),
        (f"not JSON, {CODE}", "not JSON, [hash]"),
        (f"{{'inviteCodeHash': '{CODE[:9]}'}}", "{'inviteCodeHash': \"[hash]\"}"),
        (ODD, ODD),
        ("", ""),
    ],
)  # fmt: skip
def test_secrets_are_left_out_whatever_their_shape_and_the_rest_stays(payload: str, shown: str) -> None:
    assert redacted_payload(payload) == shown


def test_of_the_librarys_own_payload_all_but_the_hashes_is_shown(stores: Stores) -> None:
    invite = stores.create(note='a "quoted" {note}, 0a1b2c').invite
    (row,) = stores.messages()
    shown = json.loads(redacted_payload(row["payload"]))
    hidden = {"tokenHash": f"{invite.token_hash[:8]}…", "inviteCodeHash": "[hash]"}
    assert shown == json.loads(row["payload"]) | hidden
