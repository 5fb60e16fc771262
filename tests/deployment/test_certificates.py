"""Certificates and keys that TLS and Flower accept."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.verification import PolicyBuilder, Store

import cli
from deployment.certificates import CertificateError, write_certificates


def load(path: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(path.read_bytes())


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
