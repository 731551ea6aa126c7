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
	// audience is the recipient that a token names.
	audience = "securenotes-api"
	// tokenType is the type in both headers (RFC 8725, section 3.11). It keeps other JWTs that
	// might ever be signed with the same keys from being accepted as session tokens.
	tokenType = "securenotes-session+jwt"
	// MaxToken bounds a token, in bytes. Real tokens have about 700.
	MaxToken = 4096
	// leeway is how far the clocks of replicas may differ.
	leeway = 30 * time.Second
	// decodedSize bounds how many tokens a Codec caches, at about 300 bytes each.
	decodedSize = 16_384
)

// Codec encodes and decodes session tokens: a JWT signed with EdDSA (RFC 8037) inside a JWE
// encrypted directly with A256GCM (RFC 7518). It accepts no other algorithm (RFC 8725, section
// 3.1).
type Codec struct {
	issuer string
	keys   *jose.JSONWebKeySet
	signer jose.Signer
	sealer jose.Encrypter
	// decoded caches the claims of authentic tokens by the token's digest: a client sends the same
	// token with each request, and verifying it costs more than the rest of a short request. Each
	// request still checks the times in the claims, and the session's row in the database.
	decoded *lru.Cache[[sha256.Size]byte, jwt.Claims]
	now     func() time.Time
}

// NewCodec returns the codec for the tokens of one deployment and one epoch of its database, which
// is empty until the first restore.
func NewCodec(deployment, epoch string, keys *config.SessionKeys) (*Codec, error) {
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
	issuer := "securenotes:" + deployment
	if epoch != "" {
		// Pods that used the database before a restore, of any release, refuse these tokens. So no
		// user can write to the restored database through such a pod.
		issuer += ":" + epoch
	}
	return &Codec{issuer: issuer, keys: set, signer: signer, sealer: sealer, decoded: decoded, now: time.Now}, nil
}

// Encode returns the session's token.
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

// Decode returns the identity in a token, or ErrInvalid. It does not check whether the session is
// live.
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

// open returns the claims of a token that is signed and encrypted with the codec's keys.
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

// key returns the key that a token's header names, if the key is for this use: an encryption key
// must never verify a signature.
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
