package sessions

import (
	"fmt"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	"github.com/google/uuid"

	"github.com/securenotes/securenotes/app/config"
)

const (
	// audience is who a token is for.
	audience = "securenotes-api"
	// MaxToken bounds a token, in bytes; ours are about 700.
	MaxToken = 4096
	// leeway is how far replicas' clocks may differ.
	leeway = 30 * time.Second
)

// Codec writes and reads session tokens: a JWT signed with EdDSA (RFC 8037) inside a JWE encrypted
// directly with A256GCM (RFC 7518). No other algorithm is accepted (RFC 8725, section 3.1).
type Codec struct {
	issuer string
	keys   *jose.JSONWebKeySet
	signer jose.Signer
	sealer jose.Encrypter
	now    func() time.Time
}

// NewCodec returns a codec whose tokens belong to one deployment.
func NewCodec(deployment string, keys *config.SessionKeys) (*Codec, error) {
	set, err := keys.KeySet()
	if err != nil {
		return nil, err
	}
	signing, encryption := set.Key(keys.SigningKeyID)[0], set.Key(keys.EncryptionKeyID)[0]
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.EdDSA, Key: signing}, (&jose.SignerOptions{}).WithType("JWT"))
	if err != nil {
		return nil, fmt.Errorf("session signing key %q: %w", signing.KeyID, err)
	}
	sealer, err := jose.NewEncrypter(jose.A256GCM, jose.Recipient{Algorithm: jose.DIRECT, Key: encryption},
		(&jose.EncrypterOptions{}).WithType("JWT").WithContentType("JWT"))
	if err != nil {
		return nil, fmt.Errorf("session encryption key %q: %w", encryption.KeyID, err)
	}
	return &Codec{issuer: "securenotes:" + deployment, keys: set, signer: signer, sealer: sealer, now: time.Now}, nil
}

// Encode writes the session's token.
func (c *Codec) Encode(s Session) (string, error) {
	token, err := jwt.SignedAndEncrypted(c.signer, c.sealer).Claims(jwt.Claims{
		Issuer: c.issuer, Audience: jwt.Audience{audience}, Subject: s.Owner, ID: s.Identity.Session,
		IssuedAt: jwt.NewNumericDate(s.CreatedAt), NotBefore: jwt.NewNumericDate(s.CreatedAt),
		Expiry: jwt.NewNumericDate(s.ExpiresAt),
	}).Serialize()
	if err != nil {
		return "", fmt.Errorf("session token: %w", err)
	}
	return token, nil
}

// Decode reads a token, or returns ErrInvalid. It does not know whether the session still lives.
func (c *Codec) Decode(token string) (Identity, error) {
	if len(token) > MaxToken {
		return Identity{}, ErrInvalid
	}
	nested, err := jwt.ParseSignedAndEncrypted(token, []jose.KeyAlgorithm{jose.DIRECT},
		[]jose.ContentEncryption{jose.A256GCM}, []jose.SignatureAlgorithm{jose.EdDSA})
	if err != nil {
		return Identity{}, ErrInvalid
	}
	encryption := c.key(nested.Headers, "enc")
	if encryption == nil {
		return Identity{}, ErrInvalid
	}
	signed, err := nested.Decrypt(encryption.Key)
	if err != nil {
		return Identity{}, ErrInvalid
	}
	signing := c.key(signed.Headers, "sig")
	if signing == nil {
		return Identity{}, ErrInvalid
	}
	var claims jwt.Claims
	if err := signed.Claims(signing.Public().Key, &claims); err != nil {
		return Identity{}, ErrInvalid
	}
	expected := jwt.Expected{Issuer: c.issuer, AnyAudience: jwt.Audience{audience}, Time: c.now()}
	if claims.Expiry == nil || claims.ValidateWithLeeway(expected, leeway) != nil {
		return Identity{}, ErrInvalid
	}
	if uuid.Validate(claims.Subject) != nil || uuid.Validate(claims.ID) != nil {
		return Identity{}, ErrInvalid
	}
	return Identity{Owner: claims.Subject, Session: claims.ID}, nil
}

// key finds the key that a token's header names, for one use only: a key for encryption must never
// verify a signature.
func (c *Codec) key(headers []jose.Header, use string) *jose.JSONWebKey {
	if len(headers) != 1 {
		return nil
	}
	for _, key := range c.keys.Key(headers[0].KeyID) {
		if key.Use == use {
			return &key
		}
	}
	return nil
}
