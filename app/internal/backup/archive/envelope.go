package archive

import (
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/securenotes/securenotes/app/config"
)

// PayloadType is the DSSE payload type of a manifest.
const PayloadType = "application/vnd.securenotes.backup.manifest+json"

// Signer signs manifests with the backup key.
type Signer interface {
	// SignBackup returns an Ed25519 signature (RFC 8032) of message, as Vault writes it:
	// PROVIDER:vVERSION:BASE64.
	SignBackup(ctx context.Context, message []byte) (string, error)
}

// dsse is an envelope of github.com/secure-systems-lab/dsse, version 1.0.0.
type dsse struct {
	PayloadType string          `json:"payloadType"`
	Payload     []byte          `json:"payload"`
	Signatures  []dsseSignature `json:"signatures"`
}

type dsseSignature struct {
	// KeyID is KEY:vVERSION. It only selects the public key to try.
	KeyID string `json:"keyid"`
	Sig   []byte `json:"sig"`
}

// preAuthEncoding returns what a DSSE signature signs. Both lengths are in it, so that no two pairs
// of type and payload have the same encoding.
func preAuthEncoding(payloadType string, payload []byte) []byte {
	return fmt.Appendf(nil, "DSSEv1 %d %s %d %s", len(payloadType), payloadType, len(payload), payload)
}

// Seal returns the manifest file for m, signed with the key of the given name. It sets m.Format.
func Seal(ctx context.Context, signer Signer, key string, m Manifest) ([]byte, error) {
	m.Format = Format
	m.inUTC()
	name := ManifestName(m.ID)
	if err := m.validate(); err != nil {
		return nil, notArchived(name, err.Error())
	}
	payload, err := encode(m)
	if err != nil {
		return nil, notArchived(name, err.Error())
	}
	signed, err := signer.SignBackup(ctx, preAuthEncoding(PayloadType, payload))
	if err != nil {
		return nil, fmt.Errorf("%s: sign the manifest: %w", name, err)
	}
	_, rest, _ := strings.Cut(signed, ":")
	version, sig, _ := strings.Cut(rest, ":")
	signature, err := base64.StdEncoding.Strict().DecodeString(sig)
	if err != nil || len(signature) != ed25519.SignatureSize || !strings.HasPrefix(version, "v") {
		return nil, fmt.Errorf("%s: sign the manifest: the signature does not have the form PROVIDER:vVERSION:BASE64 of 64 bytes: check that the key %s is an Ed25519 key", name, key)
	}
	raw, err := encode(dsse{PayloadType, payload, []dsseSignature{{key + ":" + version, signature}}})
	if err != nil {
		return nil, notArchived(name, err.Error())
	}
	if len(raw) > maxEnvelope {
		return nil, notArchived(name, fmt.Sprintf("the signed manifest has %d bytes, and the limit is %d", len(raw), maxEnvelope))
	}
	return raw, nil
}

// Envelope is a manifest file whose signature is not verified yet.
type Envelope struct {
	name   string
	sha256 string
	dsse   dsse
}

// ParseEnvelope reads a manifest file with the given name, without its directory. It accepts one
// encoding, although DSSE allows others: the SHA-256 of the file stands for its content.
func ParseEnvelope(name string, raw []byte) (*Envelope, error) {
	if len(raw) > maxEnvelope {
		return nil, damaged(name, fmt.Sprintf("it has more than %d bytes, so it is not the manifest of a backup", maxEnvelope))
	}
	digest := sha256.Sum256(raw)
	e := &Envelope{name: name, sha256: hex.EncodeToString(digest[:])}
	if err := decode(raw, &e.dsse); err != nil {
		refusal := damaged(name, "it is not the manifest of a backup, or it was truncated or edited")
		refusal.Err = err
		return nil, refusal
	}
	return e, nil
}

// Name returns the name of the manifest file.
func (e *Envelope) Name() string { return e.name }

// SHA256 returns the SHA-256 of the manifest file, in hexadecimal. Through the digests in the
// manifest, it stands for the whole backup.
func (e *Envelope) SHA256() string { return e.sha256 }

// Verify checks the signature with the trusted public keys, and returns the manifest. A signature
// by a version of the key that a Compromise ended is refused, unless endedSHA256 is the SHA-256 of
// the manifest file, which the caller knows from elsewhere.
func (e *Envelope) Verify(keys *config.BackupKeys, endedSHA256 string) (*Manifest, error) {
	version, err := e.signedBy(keys)
	if err != nil {
		return nil, err
	}
	if version.Until != nil && !strings.EqualFold(endedSHA256, e.sha256) {
		return nil, &Refusal{Reason: ErrEndedVersion, Object: e.name,
			Cause: fmt.Sprintf("version %d of %s signed it, and a Compromise ended that version at %s, so anyone who has the key can have signed it",
				version.Version, keys.Key, version.Until.UTC().Format("2006-01-02T15:04:05Z")),
			Next: "use a later backup, or give --accept-sha256 with the SHA-256 in the log of the Job that made this one"}
	}
	if e.dsse.PayloadType != PayloadType {
		return nil, damaged(e.name, fmt.Sprintf("it is signed, but it is not the manifest of a backup: its payloadType is not %s", PayloadType))
	}
	if n, err := format(e.dsse.Payload); err == nil && n > Format {
		return nil, newerFormat(e.name, n)
	}
	m := &Manifest{}
	err = decode(e.dsse.Payload, m)
	if err == nil {
		err = m.validate()
	}
	if err != nil {
		refusal := damaged(e.name, "the manifest is not as a backup writes it")
		refusal.Err = err
		return nil, refusal
	}
	if e.name != ManifestName(m.ID) {
		return nil, &Refusal{Reason: ErrDamaged, Object: e.name, Cause: "it is the manifest of the backup " + m.ID, Next: "rename it to " + ManifestName(m.ID)}
	}
	return m, nil
}

// signedBy returns the version of the key that signed the envelope.
func (e *Envelope) signedBy(keys *config.BackupKeys) (config.BackupKey, error) {
	refuse := func(reason error, cause, next string) (config.BackupKey, error) {
		return config.BackupKey{}, &Refusal{Reason: reason, Object: e.name, Cause: cause, Next: next}
	}
	if keys == nil || len(keys.Versions) == 0 {
		return refuse(ErrNoPublicKeys, "there are no public keys to verify its signature with",
			"give --public-keys with the output of `securenotes backup public-keys`, which you keep with the identity")
	}
	switch n := len(e.dsse.Signatures); {
	case n == 0 || n == 1 && len(e.dsse.Signatures[0].Sig) == 0:
		return refuse(ErrNotSigned, "it is not signed", "use a backup with a signature")
	case n > 1:
		return config.BackupKey{}, damaged(e.name, fmt.Sprintf("it has %d signatures, and a backup writes one", n))
	}
	signature := e.dsse.Signatures[0]
	key, number, err := splitKeyID(signature.KeyID)
	if err != nil {
		return config.BackupKey{}, damaged(e.name, "its signature has a keyid that is not of the form KEY:vVERSION")
	}
	if key != keys.Key {
		return refuse(ErrOtherKey, "another key signed it, not "+keys.Key, "give the public keys of the deployment that the backup is of")
	}
	version, ok := keys.Find(number)
	if !ok {
		return refuse(ErrOtherKey, fmt.Sprintf("version %d of %s signed it, which is not among the public keys", number, keys.Key),
			"get newer public keys with `securenotes backup public-keys`, or use another backup")
	}
	if len(signature.Sig) != ed25519.SignatureSize || len(version.PublicKey) != ed25519.PublicKeySize ||
		!ed25519.Verify(version.PublicKey, preAuthEncoding(e.dsse.PayloadType, e.dsse.Payload), signature.Sig) {
		return refuse(ErrOtherKey, fmt.Sprintf("its signature is not one of version %d of %s: these are not the public keys that were saved when it was made, or it was edited", number, keys.Key),
			"give those public keys with --public-keys, or use another copy of the backup")
	}
	return version, nil
}

// splitKeyID splits KEY:vVERSION.
func splitKeyID(id string) (key string, version int, err error) {
	i := strings.LastIndex(id, ":v")
	if i < 1 {
		return "", 0, errors.New("not of the form KEY:vVERSION")
	}
	version, err = strconv.Atoi(id[i+len(":v"):])
	return id[:i], version, err
}
