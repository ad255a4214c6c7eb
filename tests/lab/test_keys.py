from pathlib import Path

import paramiko

from edgefl.lab.keys import keypair


def test_a_key_is_made_once_and_any_ssh_can_read_it(tmp_path: Path) -> None:
    public = keypair(tmp_path / "id_ed25519", "edge-01")
    assert keypair(tmp_path / "id_ed25519", "edge-01") == public
    assert (tmp_path / "id_ed25519").stat().st_mode & 0o777 == 0o600
    read = paramiko.Ed25519Key.from_private_key_file(str(tmp_path / "id_ed25519"))
    assert f"{read.get_name()} {read.get_base64()}" == public


def test_an_interrupted_making_is_made_again_whole(tmp_path: Path) -> None:
    (tmp_path / "id_ed25519").write_text("half a key")
    public = keypair(tmp_path / "id_ed25519", "edge-01")
    read = paramiko.Ed25519Key.from_private_key_file(str(tmp_path / "id_ed25519"))
    assert public.endswith(read.get_base64())
