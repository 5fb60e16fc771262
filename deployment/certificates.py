"""The files by which a SuperLink and its SuperNodes recognise one another.

A certificate authority of the federation's own signs the SuperLink's certificate (SuperNodes are
given the authority's), and every SuperNode has a key whose public half is registered at the
SuperLink. What ``openssl`` and ``ssh-keygen`` would make, without their configuration files.
"""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

#: Flower's SuperLink also connects to itself.
ALWAYS = ("localhost", "127.0.0.1")


class CertificateError(ValueError):
    """Files that cannot be made or read; the message says which."""


def write_certificates(
    directory: Path, hosts: Sequence[str], nodes: int = 0, days: int = 365
) -> list[Path]:
    """Write a federation's certificates and keys.

    The authority and the nodes' keys are made once: run again, with other hosts or more nodes,
    this renews the SuperLink's certificate and adds what is missing.

    Parameters
    ----------
    directory : Path
        Receives ``ca.crt``, ``ca.key``, ``server.pem``, ``server.key``, ``node-1``,
        ``node-1.pub`` … Files with secrets are readable by their owner only.
    hosts : sequence of str
        Names and addresses by which SuperNodes and users reach the SuperLink, without a port;
        ``localhost`` and ``127.0.0.1`` are added.
    nodes : int (default: 0)
        Number of SuperNodes.
    days : int (default: 365)
        How long the certificates are valid.

    Returns
    -------
    list of Path
        The files that were written.

    Raises
    ------
    CertificateError
        If a host is neither a name nor an address, or an existing authority cannot be read.
    """
    names = [_general_name(host) for host in dict.fromkeys((*hosts, *ALWAYS))]
    if not 1 <= days <= 7300:
        raise CertificateError(f"days = {days}: must be between 1 and 7300")
    directory.mkdir(parents=True, exist_ok=True)
    written: list[Path] = []
    authority, authority_key = _authority(directory, days, written)
    key = ec.generate_private_key(ec.SECP384R1())
    certificate = (
        _certificate("fedf2dg SuperLink", key.public_key(), authority.subject, days)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key()),
            critical=False,
        )
        .sign(authority_key, hashes.SHA384())
    )
    _write(directory / "server.key", _pem(key), written, secret=True)
    _write(directory / "server.pem", certificate.public_bytes(serialization.Encoding.PEM), written)
    for number in range(1, nodes + 1):
        if not (directory / f"node-{number}").exists():
            _write_node_key(directory / f"node-{number}", written)
    return written


def _authority(
    directory: Path, days: int, written: list[Path]
) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    key_file, certificate_file = directory / "ca.key", directory / "ca.crt"
    if key_file.exists() and certificate_file.exists():
        try:
            certificate = x509.load_pem_x509_certificate(certificate_file.read_bytes())
            key = serialization.load_pem_private_key(key_file.read_bytes(), None)
        except (OSError, ValueError, TypeError) as error:
            raise CertificateError(f"{key_file} or {certificate_file}: {error}") from error
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise CertificateError(f"{key_file} was not made by this command")
        return certificate, key
    key = ec.generate_private_key(ec.SECP384R1())
    name = "fedf2dg certificate authority"
    certificate = (
        _certificate(name, key.public_key(), _subject(name), days)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_signing_only(), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA384())
    )
    _write(key_file, _pem(key), written, secret=True)
    _write(certificate_file, certificate.public_bytes(serialization.Encoding.PEM), written)
    return certificate, key


def _certificate(
    name: str, key: ec.EllipticCurvePublicKey, issuer: x509.Name, days: int
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(_subject(name))
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        # Sites' clocks differ.
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=days))
    )


def _subject(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _signing_only() -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=False,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=True,
        crl_sign=True,
        encipher_only=False,
        decipher_only=False,
    )


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        pass
    labels = host.rstrip(".").split(".")
    if not all(label and set(label) <= _NAME_CHARACTERS for label in labels):
        raise CertificateError(
            f"{host!r} is neither a host name nor an address (give it without port and scheme)"
        )
    return x509.DNSName(host)


_NAME_CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-")


def _write_node_key(path: Path, written: list[Path]) -> None:
    key = ec.generate_private_key(ec.SECP384R1())
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.OpenSSH,
        serialization.NoEncryption(),
    )
    public = key.public_key().public_bytes(
        serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH
    )
    _write(path, private, written, secret=True)
    _write(path.with_name(f"{path.name}.pub"), public + b"\n", written)


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def _write(path: Path, content: bytes, written: list[Path], *, secret: bool = False) -> None:
    path.unlink(missing_ok=True)  # so that the mode below is that of a new file
    mode = 0o600 if secret else 0o644
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
    written.append(path)
