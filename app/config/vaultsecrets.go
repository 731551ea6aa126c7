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
	// UID of the object that owns the key now.
	UID string `json:"uid"`
	// NamespaceUID is the UID of the object's namespace. Vault knows namespaces only by name, which
	// a recreated namespace shares with the deleted one. Empty: not recorded yet.
	NamespaceUID string `json:"namespaceUID,omitempty"`
	// ClusterUID is the UID of the namespace kube-system in the object's cluster. A rebuilt cluster
	// may share the cluster id in the path with the cluster that it replaces. Empty: an earlier
	// release wrote the marker.
	ClusterUID string `json:"clusterUID,omitempty"`
	// DeploymentID is the UID of the object that the key was created for. Values are bound to it,
	// so it stays when another object adopts a retained key.
	DeploymentID string `json:"deploymentID"`
	// SessionKeys and OtherSessionKeys are the entries of session keys that may exist. The operator
	// cannot list a directory, so it records an entry here before it creates it. Only the status of
	// the SecureNotes says which one is in use, because anyone with the operator's Vault token can
	// write here. SessionKeys empty: SessionKeysLeaf.
	SessionKeys      string   `json:"sessionKeys,omitempty"`
	OtherSessionKeys []string `json:"otherSessionKeys,omitempty"`
	// Pepper is the entry of the pepper and PepperDigest its [Pepper.Digest], for an object that
	// adopts a retained key. Empty: PepperLeaf. Earlier releases did not record a digest.
	Pepper       string `json:"pepper,omitempty"`
	PepperDigest string `json:"pepperDigest,omitempty"`
	// Claimed becomes true when the first pod is ready. From then on there is a database with this
	// deployment's data, and no empty one may take its place. The status says so, too, but does not
	// outlive the object.
	Claimed bool `json:"claimed,omitempty"`
	// EmptyDatabases counts how often a user has accepted an empty database in the place of a lost
	// one.
	EmptyDatabases int `json:"emptyDatabases,omitempty"`
}

// SessionKeys are the keys of session tokens: Ed25519 to sign (RFC 8037), AES-256 to encrypt
// (RFC 7518, dir with A256GCM).
type SessionKeys struct {
	// JWKS is a JSON Web Key Set (RFC 7517) with private keys. It is a string, because Vault would
	// otherwise reorder and retype it.
	JWKS string `json:"jwks"`
	// SigningKeyID and EncryptionKeyID name the keys for new tokens. Existing tokens may use any
	// key of the set.
	SigningKeyID    string `json:"signingKeyID"`
	EncryptionKeyID string `json:"encryptionKeyID"`
}

// Pepper is the key of the HMAC that passwords pass through before they are hashed (OWASP Password
// Storage Cheat Sheet, peppering). Old peppers stay while a hash needs them.
type Pepper struct {
	// CurrentID names the pepper for new hashes.
	CurrentID string `json:"currentID"`
	// Peppers maps an id to 32 bytes in standard base64.
	Peppers map[string]string `json:"peppers"`
}

// NewSessionKeys returns one random signing key and one random encryption key.
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

// Digest returns the SHA-256 of the keys, in hex. It reveals nothing about them, because they are
// random.
func (k *SessionKeys) Digest() (string, error) { return digestOf(k) }

// Digest returns the SHA-256 of the pepper, in hex. It reveals nothing about it, because it is
// random.
func (p *Pepper) Digest() (string, error) { return digestOf(p) }

// digestOf hashes the parsed value, because Vault does not preserve the text. Package json writes
// struct fields in order and map keys sorted, so equal values have equal digests.
func digestOf(value any) (string, error) {
	raw, err := json.Marshal(value)
	if err != nil {
		return "", fmt.Errorf("digest: %w", err)
	}
	sum := sha256.Sum256(raw)
	return hex.EncodeToString(sum[:]), nil
}

// KeySet parses the set and checks it: every key is private or symmetric and of one of the two
// allowed algorithms, and the set contains both named keys.
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

// NewPepper returns one random pepper.
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
