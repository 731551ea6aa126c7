package config

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/go-jose/go-jose/v4"
)

// Marker says which SecureNotes object a master key belongs to.
type Marker struct {
	// UID is of the object that the key belongs to now.
	UID string `json:"uid"`
	// NamespaceUID is of the namespace that this object is in: Vault knows namespaces by their
	// names only, and one that was deleted and recreated is another one. Empty: not recorded yet.
	NamespaceUID string `json:"namespaceUID,omitempty"`
	// ClusterUID is of the namespace kube-system of the cluster that this object is in: a rebuilt
	// cluster and the one it replaces share the cluster id in the path. Empty: an earlier release
	// wrote the marker.
	ClusterUID string `json:"clusterUID,omitempty"`
	// DeploymentID is the UID of the object that the key was made for; values are bound to it, so
	// it stays when a retained key is adopted by a new object.
	DeploymentID string `json:"deploymentID"`
	// SessionKeys and OtherSessionKeys are the entries of session keys that may exist: the operator
	// cannot list a directory, so an entry is named here before it is created. Which one is in use,
	// only the status of the SecureNotes says: anyone who has the operator's Vault token can write
	// here. SessionKeys empty: SessionKeysLeaf.
	SessionKeys      string   `json:"sessionKeys,omitempty"`
	OtherSessionKeys []string `json:"otherSessionKeys,omitempty"`
	// Pepper is the entry of the pepper, and PepperDigest its [Pepper.Digest], for an object that
	// adopts what another one left. Empty: PepperLeaf, of an earlier release, whose digest was not
	// recorded.
	Pepper       string `json:"pepper,omitempty"`
	PepperDigest string `json:"pepperDigest,omitempty"`
	// Claimed is true from the first pod on that was ready: there is a database with this
	// deployment's data, and no empty one may take its place. It is here, besides in the status,
	// because that does not outlive the object.
	Claimed bool `json:"claimed,omitempty"`
	// EmptyDatabases counts how often somebody has accepted an empty database in the place of a
	// lost one.
	EmptyDatabases int `json:"emptyDatabases,omitempty"`
}

// SessionKeys are the keys of session tokens: Ed25519 to sign (RFC 8037), AES-256 to encrypt
// (RFC 7518, dir with A256GCM).
type SessionKeys struct {
	// JWKS is a JSON Web Key Set (RFC 7517) with private keys. It is a string, because Vault would
	// otherwise reorder and retype it.
	JWKS string `json:"jwks"`
	// SigningKeyID and EncryptionKeyID name the keys for new tokens; all keys of the set are
	// accepted for tokens that exist.
	SigningKeyID    string `json:"signingKeyID"`
	EncryptionKeyID string `json:"encryptionKeyID"`
}

// Pepper is what passwords are keyed with before they are hashed (OWASP Password Storage Cheat
// Sheet, peppering). Old peppers stay while a hash needs them.
type Pepper struct {
	// CurrentID names the pepper for new hashes.
	CurrentID string `json:"currentID"`
	// Peppers maps an id to 32 bytes in standard base64.
	Peppers map[string]string `json:"peppers"`
}

// NewSessionKeys makes one signing and one encryption key from the system's random source.
func NewSessionKeys() (*SessionKeys, error) {
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("session signing key: %w", err)
	}
	symmetric := make([]byte, 32)
	rand.Read(symmetric)
	keys := &SessionKeys{SigningKeyID: "sig-" + rand.Text()[:12], EncryptionKeyID: "enc-" + rand.Text()[:12]}
	set := jose.JSONWebKeySet{Keys: []jose.JSONWebKey{
		{Key: private, KeyID: keys.SigningKeyID, Algorithm: string(jose.EdDSA), Use: "sig"},
		{Key: symmetric, KeyID: keys.EncryptionKeyID, Algorithm: string(jose.A256GCM), Use: "enc"},
	}}
	raw, err := json.Marshal(set)
	if err != nil {
		return nil, fmt.Errorf("session keys: %w", err)
	}
	keys.JWKS = string(raw)
	return keys, nil
}

// Digest returns the SHA-256 of the keys, in hex. It reveals nothing of them: they are random.
func (k *SessionKeys) Digest() (string, error) { return digestOf(k) }

// Digest returns the SHA-256 of the pepper, in hex. It reveals nothing of it: it is random.
func (p *Pepper) Digest() (string, error) { return digestOf(p) }

// digestOf hashes what was understood of a value rather than the text it came in, which Vault does
// not keep. Go writes a struct's fields in their order and a map's keys sorted, so equal values
// have equal digests.
func digestOf(value any) (string, error) {
	raw, err := json.Marshal(value)
	if err != nil {
		return "", fmt.Errorf("digest: %w", err)
	}
	sum := sha256.Sum256(raw)
	return hex.EncodeToString(sum[:]), nil
}

// KeySet parses and checks the set: every key private or symmetric, of the two allowed algorithms,
// and both named keys in it.
func (k *SessionKeys) KeySet() (*jose.JSONWebKeySet, error) {
	set := &jose.JSONWebKeySet{}
	if err := json.Unmarshal([]byte(k.JWKS), set); err != nil {
		// The parser's own error may quote key material.
		return nil, errors.New("session-keys: jwks is not a JSON Web Key Set")
	}
	for _, key := range set.Keys {
		switch value := key.Key.(type) {
		case ed25519.PrivateKey:
			if key.Use != "sig" || key.Algorithm != string(jose.EdDSA) {
				return nil, fmt.Errorf("session-keys: key %q is Ed25519 but not marked sig, EdDSA", key.KeyID)
			}
		case []byte:
			if key.Use != "enc" || key.Algorithm != string(jose.A256GCM) || len(value) != 32 {
				return nil, fmt.Errorf("session-keys: key %q is not a 32-byte key marked enc, A256GCM", key.KeyID)
			}
		default:
			return nil, fmt.Errorf("session-keys: key %q is of a type that is not allowed", key.KeyID)
		}
	}
	if err := exactlyOne(set, k.SigningKeyID, "sig"); err != nil {
		return nil, err
	}
	if err := exactlyOne(set, k.EncryptionKeyID, "enc"); err != nil {
		return nil, err
	}
	return set, nil
}

func exactlyOne(set *jose.JSONWebKeySet, id, use string) error {
	if found := set.Key(id); len(found) != 1 || found[0].Use != use {
		return fmt.Errorf("session-keys: needs exactly one key %q for %s", id, use)
	}
	return nil
}

// NewPepper makes one pepper from the system's random source.
func NewPepper() *Pepper {
	value := make([]byte, 32)
	rand.Read(value)
	id := "pep-" + rand.Text()[:12]
	return &Pepper{CurrentID: id, Peppers: map[string]string{id: base64.StdEncoding.EncodeToString(value)}}
}

// Values decodes and checks the peppers.
func (p *Pepper) Values() (map[string][]byte, error) {
	values := make(map[string][]byte, len(p.Peppers))
	for id, text := range p.Peppers {
		value, err := base64.StdEncoding.DecodeString(text)
		if err != nil || len(value) != 32 {
			return nil, fmt.Errorf("pepper: %q is not 32 bytes in base64", id)
		}
		values[id] = value
	}
	if values[p.CurrentID] == nil {
		return nil, fmt.Errorf("pepper: the current pepper %q is not among the values", p.CurrentID)
	}
	return values, nil
}
