"""Certificates and keys that TLS and Flower accept."""

import stat
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.verification import PolicyBuilder, Store

from fedf2dg import cli
from fedf2dg.deployment.certificates import AUTHORITY_DAYS, CertificateError, write_certificates

ROOT = Path(__file__).parents[3]
NOW = datetime.now(UTC).replace(microsecond=0)


def load(path: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(path.read_bytes())


def contents(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def let_it_end(directory: Path, name: str, end: datetime) -> None:
    """Replace a certificate by one that differs in its dates alone."""
    old = load(directory / name)
    key = serialization.load_pem_private_key((directory / "ca.key").read_bytes(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    builder = x509.CertificateBuilder(
        old.issuer,
        old.subject,
        old.public_key(),
        old.serial_number,
        end - timedelta(days=400),
        end,
        list(old.extensions),
    )
    certificate = builder.sign(key, hashes.SHA384())
    (directory / name).write_bytes(certificate.public_bytes(serialization.Encoding.PEM))


def trusted(directory: Path, host: str, at: datetime) -> bool:
    policy = PolicyBuilder().store(Store([load(directory / "ca.crt")])).time(at)
    try:
        policy.build_server_verifier(x509.DNSName(host)).verify(load(directory / "server.pem"), [])
    except x509.verification.VerificationError:
        return False
    return True


@pytest.mark.parametrize("host", ["superlink.example.org", "localhost"])
def test_the_servers_certificate_is_valid_for_its_names_under_the_authority(tmp_path, host):
    write_certificates(tmp_path, ["superlink.example.org", "10.1.2.3"])
    store = Store([load(tmp_path / "ca.crt")])
    builder = PolicyBuilder().store(store)
    builder.build_server_verifier(x509.DNSName(host)).verify(load(tmp_path / "server.pem"), [])
    with pytest.raises(x509.verification.VerificationError):
        builder.build_server_verifier(x509.DNSName("other.example.org")).verify(
            load(tmp_path / "server.pem"), []
        )


def test_another_authority_is_not_trusted(tmp_path):
    write_certificates(tmp_path / "a", [])
    write_certificates(tmp_path / "b", [])
    verifier = PolicyBuilder().store(Store([load(tmp_path / "a" / "ca.crt")]))
    with pytest.raises(x509.verification.VerificationError):
        verifier.build_server_verifier(x509.DNSName("localhost")).verify(
            load(tmp_path / "b" / "server.pem"), []
        )


def test_node_keys_are_what_flower_reads_and_secrets_are_secret(tmp_path):
    write_certificates(tmp_path, [], nodes=2)
    private = serialization.load_ssh_private_key((tmp_path / "node-2").read_bytes(), None)
    public = serialization.load_ssh_public_key((tmp_path / "node-2.pub").read_bytes())
    assert isinstance(private, ec.EllipticCurvePrivateKey)
    assert private.public_key() == public
    for name in ("ca.key", "server.key", "node-1", "node-2"):
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o600


def test_run_again_it_keeps_authority_and_keys_and_adds_what_is_new(tmp_path):
    write_certificates(tmp_path, ["a.example"], nodes=1)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    written = write_certificates(tmp_path, ["b.example"], nodes=2)
    assert {path.name for path in written} == {"server.key", "server.pem", "node-2", "node-2.pub"}
    for name in ("ca.key", "ca.crt", "node-1", "node-1.pub"):
        assert (tmp_path / name).read_bytes() == before[name]


def test_the_authority_outlives_the_servers_certificates(tmp_path, caplog):
    write_certificates(tmp_path, [], days=365)
    authority, server = load(tmp_path / "ca.crt"), load(tmp_path / "server.pem")
    lasts = authority.not_valid_after_utc - server.not_valid_after_utc
    assert lasts == timedelta(days=AUTHORITY_DAYS - 365)
    assert trusted(tmp_path, "localhost", NOW + timedelta(days=364))
    assert not trusted(tmp_path, "localhost", NOW + timedelta(days=366))
    write_certificates(tmp_path / "longest", [], days=AUTHORITY_DAYS)
    assert not caplog.records


def test_the_servers_certificate_ends_with_the_authority_and_the_command_says_so(tmp_path):
    write_certificates(tmp_path, [])
    end = NOW + timedelta(days=65)
    let_it_end(tmp_path, "ca.crt", end)
    program = "import sys; from fedf2dg import cli; sys.exit(cli.main(sys.argv[1:]))"
    # A process of its own: pytest takes over what is logged.
    done = subprocess.run(
        [sys.executable, "-c", program, "certificates", tmp_path, "--days", "66"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert f"ends with the authority on {end:%Y-%m-%d}, before the 66 days" in done.stderr
    assert load(tmp_path / "server.pem").not_valid_after_utc == end
    assert trusted(tmp_path, "localhost", end - timedelta(days=1))


def test_an_authority_that_has_ended_is_refused(tmp_path):
    write_certificates(tmp_path, [])
    let_it_end(tmp_path, "ca.crt", NOW - timedelta(days=1))
    before = contents(tmp_path)
    with pytest.raises(CertificateError, match=r"the authority ended on .* every site"):
        write_certificates(tmp_path, [], nodes=1)
    (tmp_path / "ca.key").unlink()
    with pytest.raises(CertificateError, match=r"the authority ended on .* every site"):
        write_certificates(tmp_path, [], nodes=1)
    del before["ca.key"]
    assert contents(tmp_path) == before


def test_an_authority_with_anothers_key_is_refused(tmp_path):
    write_certificates(tmp_path / "a", [])
    write_certificates(tmp_path / "b", [])
    (tmp_path / "b" / "ca.key").replace(tmp_path / "a" / "ca.key")
    before = contents(tmp_path / "a")
    with pytest.raises(CertificateError, match=r"ca\.key is not the key of .*ca\.crt"):
        write_certificates(tmp_path / "a", [], nodes=1)
    assert contents(tmp_path / "a") == before


@pytest.mark.parametrize(("missing", "nodes"), [("ca.key", 0), ("ca.key", 1), ("ca.crt", 2)])
def test_half_an_authority_is_not_replaced(tmp_path, missing, nodes):
    write_certificates(tmp_path, [], nodes=1)
    (tmp_path / missing).unlink()
    before = contents(tmp_path)
    with pytest.raises(CertificateError, match=rf"{missing} is missing.* bring .* a new folder"):
        write_certificates(tmp_path, [], nodes=nodes)
    assert contents(tmp_path) == before


def test_nodes_are_added_without_the_authoritys_key(tmp_path, caplog):
    write_certificates(tmp_path, ["a.example", "10.1.2.3"], nodes=1)
    (tmp_path / "ca.key").unlink()
    before = contents(tmp_path)
    for hosts, nodes in (([], 2), (["A.example", "10.1.2.3"], 3)):
        written = write_certificates(tmp_path, hosts, nodes)
        assert {path.name for path in written} == {f"node-{nodes}", f"node-{nodes}.pub"}
    assert before.items() <= contents(tmp_path).items()
    end = load(tmp_path / "server.pem").not_valid_after_utc
    assert f"valid until {end:%Y-%m-%d}" in caplog.text


def without_its_key(directory: Path) -> None:
    write_certificates(directory / "other", [])
    (directory / "other" / "server.key").replace(directory / "server.key")


def of_another_authority(directory: Path) -> None:
    without_its_key(directory)
    (directory / "other" / "server.pem").replace(directory / "server.pem")


@pytest.mark.parametrize(
    ("change", "hosts", "reason"),
    [
        (lambda _: None, ["b.example"], "does not hold for b.example"),
        (lambda _: None, ["a.example."], "does not hold for a.example."),
        (lambda directory: (directory / "server.pem").unlink(), [], "cannot be read"),
        (lambda directory: (directory / "server.key").unlink(), [], "cannot be read"),
        (without_its_key, [], "server.key is not the key"),
        (of_another_authority, [], "does not hold for"),
        (lambda directory: let_it_end(directory, "server.pem", NOW), [], "does not hold for"),
    ],
)
def test_a_servers_certificate_that_must_change_needs_the_authoritys_key(
    tmp_path, change, hosts, reason
):
    folder = tmp_path / "keys"
    write_certificates(folder, ["a.example"])
    change(folder)
    (folder / "ca.key").unlink()
    before = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    with pytest.raises(CertificateError, match=rf"ca\.key is missing.*{reason}.*bring ca\.key"):
        write_certificates(folder, hosts, nodes=1)
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == before


def test_a_key_whose_private_half_is_at_its_site_is_kept(tmp_path):
    write_certificates(tmp_path, [], nodes=1)
    (tmp_path / "node-1").unlink()
    before = (tmp_path / "node-1.pub").read_bytes()
    write_certificates(tmp_path, [], nodes=2)
    assert (tmp_path / "node-1.pub").read_bytes() == before
    assert not (tmp_path / "node-1").exists()


@pytest.mark.parametrize("host", ["https://a.example", "a.example:8443", "", "a b", "a..b"])
def test_what_is_no_host_is_refused(tmp_path, host):
    with pytest.raises(CertificateError, match="neither a host name nor an address"):
        write_certificates(tmp_path / "new", [host])
    assert not (tmp_path / "new").exists()


def test_the_command(tmp_path, capsys):
    assert cli.main(["certificates", str(tmp_path), "--host", "::1", "--nodes", "1"]) == 0
    assert str(tmp_path / "node-1.pub") in capsys.readouterr().out
    assert cli.main(["certificates", str(tmp_path), "--host", "a b"]) != 0
    assert "neither a host name" in capsys.readouterr().err
