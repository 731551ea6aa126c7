package sessions

import (
	"crypto/sha256"
	"fmt"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	"github.com/google/uuid"
	lru "github.com/hashicorp/golang-lru/v2"

	"github.com/securenotes/securenotes/app/config"
)

const (
	// audience is who a token is for.
	audience = "securenotes-api"
	// tokenType says what a token is, in both headers (RFC 8725, section 3.11): no other JWT that were ever signed with
	// the same keys could pass for one.
	tokenType = "securenotes-session+jwt"
	// MaxToken bounds a token, in bytes; ours are about 700.
	MaxToken = 4096
	// leeway is how far replicas' clocks may differ.
	leeway = 30 * time.Second
	// decodedSize bounds how many tokens a Codec remembers, about 300 bytes each.
	decodedSize = 16_384
)

// Codec writes and reads session tokens: a JWT signed with EdDSA (RFC 8037) inside a JWE encrypted
// directly with A256GCM (RFC 7518). No other algorithm is accepted (RFC 8725, section 3.1).
type Codec struct {
	issuer string
	keys   *jose.JSONWebKeySet
	signer jose.Signer
	sealer jose.Encrypter
	// decoded remembers the claims of tokens that were authentic, by the token's digest: a client sends the
	// same one with each request, and its signature costs more than the rest of a short request. What the
	// claims say is checked each time, and whether the session lives is not for the token to say.
	decoded *lru.Cache[[sha256.Size]byte, jwt.Claims]
	now     func() time.Time
}

// NewCodec returns a codec whose tokens belong to one deployment.
func NewCodec(deployment string, keys *config.SessionKeys) (*Codec, error) {
	set, err := keys.KeySet()
	if err != nil {
		return nil, err
	}
	signing, encryption := set.Key(keys.SigningKeyID)[0], set.Key(keys.EncryptionKeyID)[0]
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.EdDSA, Key: signing}, (&jose.SignerOptions{}).WithType(tokenType))
	if err != nil {
		return nil, fmt.Errorf("session signing key %q: %w", signing.KeyID, err)
	}
	sealer, err := jose.NewEncrypter(jose.A256GCM, jose.Recipient{Algorithm: jose.DIRECT, Key: encryption},
		(&jose.EncrypterOptions{}).WithType(tokenType).WithContentType("JWT"))
	if err != nil {
		return nil, fmt.Errorf("session encryption key %q: %w", encryption.KeyID, err)
	}
	decoded, err := lru.New[[sha256.Size]byte, jwt.Claims](decodedSize)
	if err != nil {
		return nil, fmt.Errorf("session tokens: %w", err)
	}
	return &Codec{issuer: "securenotes:" + deployment, keys: set, signer: signer, sealer: sealer, decoded: decoded, now: time.Now}, nil
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
	digest := sha256.Sum256([]byte(token))
	known, ok := c.decoded.Get(digest)
	if !ok {
		var err error
		if known, err = c.open(token); err != nil {
			return Identity{}, err
		}
		c.decoded.Add(digest, known)
	}
	expected := jwt.Expected{Issuer: c.issuer, AnyAudience: jwt.Audience{audience}, Time: c.now()}
	if known.Expiry == nil || known.ValidateWithLeeway(expected, leeway) != nil {
		return Identity{}, ErrInvalid
	}
	if uuid.Validate(known.Subject) != nil || uuid.Validate(known.ID) != nil {
		return Identity{}, ErrInvalid
	}
	return Identity{Owner: known.Subject, Session: known.ID}, nil
}

// open returns the claims of a token that is signed and encrypted with our keys.
func (c *Codec) open(token string) (jwt.Claims, error) {
	nested, err := jwt.ParseSignedAndEncrypted(token, []jose.KeyAlgorithm{jose.DIRECT},
		[]jose.ContentEncryption{jose.A256GCM}, []jose.SignatureAlgorithm{jose.EdDSA})
	if err != nil {
		return jwt.Claims{}, ErrInvalid
	}
	encryption := c.key(nested.Headers, "enc")
	if encryption == nil {
		return jwt.Claims{}, ErrInvalid
	}
	signed, err := nested.Decrypt(encryption.Key)
	if err != nil {
		return jwt.Claims{}, ErrInvalid
	}
	signing := c.key(signed.Headers, "sig")
	if signing == nil {
		return jwt.Claims{}, ErrInvalid
	}
	var claims jwt.Claims
	if err := signed.Claims(signing.Public().Key, &claims); err != nil {
		return jwt.Claims{}, ErrInvalid
	}
	return claims, nil
}

// key finds the key that the header of a token of ours names, for one use only: a key for encryption must
// never verify a signature.
func (c *Codec) key(headers []jose.Header, use string) *jose.JSONWebKey {
	if len(headers) != 1 || headers[0].ExtraHeaders[jose.HeaderType] != tokenType {
		return nil
	}
	for _, key := range c.keys.Key(headers[0].KeyID) {
		if key.Use == use {
			return &key
		}
	}
	return nil
}
