"""The files by which a SuperLink and its SuperNodes recognise one another.

A certificate authority of the federation's own signs the SuperLink's certificate (SuperNodes are
given the authority's), and every SuperNode has a key whose public half is registered at the
SuperLink. What ``openssl`` and ``ssh-keygen`` would make, without their configuration files.
"""

import ipaddress
import logging
import os
import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError

from foundation import ExpectedError

#: Flower's SuperLink also connects to itself.
ALWAYS = ("localhost", "127.0.0.1")

#: How long an authority is valid: 20 years, longer than a federation lives. Its end cuts off every
#: site until each has been given another by hand.
AUTHORITY_DAYS = 7300

_log = logging.getLogger(__name__)

#: What a file that is no certificate or no key of a known kind raises.
_UNREADABLE = (OSError, ValueError, TypeError, UnsupportedAlgorithm)

_NAME = re.compile(r"[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)*\.*")

_START_ANEW = (
    "to start a new authority, which every site must then be given, use a new folder or remove "
    "ca.crt and ca.key"
)


class CertificateError(ExpectedError, ValueError):
    """Files that cannot be made or read; the message says which."""


def write_certificates(
    directory: Path, hosts: Sequence[str], nodes: int = 0, days: int = 365
) -> list[Path]:
    """Write a federation's certificates and keys; return the files that were written.

    These are ``ca.crt``, ``ca.key``, ``server.pem``, ``server.key``, ``node-1``, ``node-1.pub`` …;
    files with secrets are readable by their owner only. The authority and the nodes' keys are made
    once: run again, with other hosts or more nodes, this renews the SuperLink's certificate and
    adds what is missing. Where ``ca.key`` was taken away, new nodes' keys are added and the
    SuperLink's certificate stays as it is.

    ``hosts`` are names and addresses by which SuperNodes and users reach the SuperLink, without a
    port; ``localhost`` and ``127.0.0.1`` are added. The SuperLink's certificate is valid for so
    many ``days``, and ends with the authority's at the latest.

    CertificateError, before anything is written, if a host is neither a name nor an address, or an
    existing authority cannot be read, has ended or lacks a file that is needed.
    """
    names = [_general_name(host) for host in dict.fromkeys((*hosts, *ALWAYS))]
    if not 1 <= days <= AUTHORITY_DAYS:
        raise CertificateError(f"days = {days}: must be between 1 and {AUTHORITY_DAYS}")
    directory.mkdir(parents=True, exist_ok=True)
    node_keys = [directory / f"node-{number}" for number in range(1, nodes + 1)]
    # A key's private half may have moved to its site, or never have been here.
    new = [key for key in node_keys if not key.exists() and not _public(key).exists()]
    now = datetime.now(UTC).replace(microsecond=0)  # certificates count in whole seconds
    written: list[Path] = []
    if (directory / "ca.crt").exists() and not (directory / "ca.key").exists():
        _keep_server_certificate(directory, names, now, adds_nodes=bool(new))
    else:
        _write_server_certificate(directory, names, now, days, written)
    for key in new:
        _write_node_key(key, written)
    return written


def _keep_server_certificate(
    directory: Path,
    names: Sequence[x509.DNSName | x509.IPAddress],
    now: datetime,
    *,
    adds_nodes: bool,
) -> None:
    """Do without the authority's key, or say why it is needed."""
    authority = _read_authority(directory / "ca.crt", now)
    policy = PolicyBuilder().store(Store([authority])).time(now)
    reason = "with no new node, all there is to do is to renew the server's certificate"
    wrong = "the server's certificate cannot be read"
    try:
        server = x509.load_pem_x509_certificate((directory / "server.pem").read_bytes())
        key = serialization.load_pem_private_key((directory / "server.key").read_bytes(), None)
        for name in names:
            wrong = f"the server's certificate does not hold for {name.value}"
            policy.build_server_verifier(name).verify(server, [])
        if key.public_key() != server.public_key():
            reason = "server.key is not the key of the server's certificate"
        elif adds_nodes:
            end = f"{server.not_valid_after_utc:%Y-%m-%d}"
            _log.warning("without ca.key, server.pem stays as it is: valid until %s", end)
            return
    except (VerificationError, *_UNREADABLE) as error:
        reason = f"{wrong}: {error}"
    raise CertificateError(
        f"{directory / 'ca.key'} is missing, the key of {directory / 'ca.crt'}, and {reason}: "
        f"bring ca.key back to renew the certificate or add hosts; {_START_ANEW}"
    )


def _write_server_certificate(
    directory: Path,
    names: Sequence[x509.DNSName | x509.IPAddress],
    now: datetime,
    days: int,
    written: list[Path],
) -> None:
    authority, authority_key = _authority(directory, now, written)
    end = now + timedelta(days=days)
    if end > authority.not_valid_after_utc:
        # What is signed is worth nothing once the signer has ended.
        end = authority.not_valid_after_utc
        _log.warning(
            "server.pem ends with the authority on %s, before the %d days are over",
            f"{end:%Y-%m-%d}",
            days,
        )
    key = ec.generate_private_key(ec.SECP384R1())
    certificate = (
        _certificate("fedf2dg SuperLink", key.public_key(), authority.subject, now, end)
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


def _authority(
    directory: Path, now: datetime, written: list[Path]
) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    """Return the authority that is there, or a new one where nothing is left of any."""
    key_file, certificate_file = directory / "ca.key", directory / "ca.crt"
    if certificate_file.exists():
        certificate = _read_authority(certificate_file, now)
        try:
            key = serialization.load_pem_private_key(key_file.read_bytes(), None)
        except _UNREADABLE as error:
            raise CertificateError(f"{key_file}: {error}") from error
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise CertificateError(f"{key_file} was not made by this command")
        if key.public_key() != certificate.public_key():
            raise CertificateError(
                f"{key_file} is not the key of {certificate_file}: bring back the two that belong "
                f"together; {_START_ANEW}"
            )
        return certificate, key
    if key_file.exists():
        raise CertificateError(
            f"{certificate_file} is missing, the certificate of {key_file}: bring it back (every "
            f"site has a copy) to add or renew anything; {_START_ANEW}"
        )
    key = ec.generate_private_key(ec.SECP384R1())
    name = "fedf2dg certificate authority"
    end = now + timedelta(days=AUTHORITY_DAYS)
    certificate = (
        _certificate(name, key.public_key(), _subject(name), now, end)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_signing_only(), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA384())
    )
    _write(key_file, _pem(key), written, secret=True)
    _write(certificate_file, certificate.public_bytes(serialization.Encoding.PEM), written)
    return certificate, key


def _read_authority(file: Path, now: datetime) -> x509.Certificate:
    try:
        certificate = x509.load_pem_x509_certificate(file.read_bytes())
        certificate.public_key()
    except _UNREADABLE as error:
        raise CertificateError(f"{file}: {error}") from error
    end = certificate.not_valid_after_utc
    if end <= now:
        raise CertificateError(
            f"{file}: the authority ended on {end:%Y-%m-%d} and can sign no more; {_START_ANEW}"
        )
    return certificate


def _certificate(
    name: str, key: ec.EllipticCurvePublicKey, issuer: x509.Name, now: datetime, end: datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(_subject(name))
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        # Sites' clocks differ.
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(end)
    )


def _subject(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _signing_only() -> x509.KeyUsage:
    others = (
        *("digital_signature", "content_commitment", "key_encipherment", "data_encipherment"),
        *("key_agreement", "encipher_only", "decipher_only"),
    )
    return x509.KeyUsage(key_cert_sign=True, crl_sign=True, **dict.fromkeys(others, False))


def _general_name(host: str) -> x509.DNSName | x509.IPAddress:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        pass
    if not _NAME.fullmatch(host):
        raise CertificateError(
            f"{host!r} is neither a host name nor an address (give it without port and scheme)"
        )
    return x509.DNSName(host)


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
    _write(_public(path), public + b"\n", written)


def _public(path: Path) -> Path:
    return path.with_name(f"{path.name}.pub")


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _write(path: Path, content: bytes, written: list[Path], *, secret: bool = False) -> None:
    path.unlink(missing_ok=True)  # so that the mode below is that of a new file
    mode = 0o600 if secret else 0o644
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
    written.append(path)
