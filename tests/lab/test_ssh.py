from pathlib import Path

from edgefl.lab.ssh import ssh_options


def test_the_hosts_key_is_always_checked_and_nothing_of_the_users_configuration_takes_part(tmp_path: Path) -> None:
    options = ssh_options(tmp_path)
    assert options[:2] == ["-F", "none"]
    assert "StrictHostKeyChecking=yes" in options
    assert f"UserKnownHostsFile={tmp_path}/known_hosts" in options


def test_a_directory_with_spaces_and_percent_signs_survives_sshs_own_expansion() -> None:
    proxy = next(option for option in ssh_options(Path("/a b/50%")) if option.startswith("ProxyCommand="))
    assert "'/a b/50%%' %h %p" in proxy
