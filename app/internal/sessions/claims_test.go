package sessions

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
)

// parts are the parts of a token.
type parts struct {
	sign       jose.SigningKey
	seal       jose.Recipient
	encryption jose.ContentEncryption
	// innerType, outerType and content are header values. An empty value is left out.
	innerType, outerType, content jose.ContentType
	// embed includes the signing key in the header.
	embed  bool
	claims jwt.Claims
}

func (p parts) token(t *testing.T) string {
	t.Helper()
	inner, outer := &jose.SignerOptions{EmbedJWK: p.embed}, &jose.EncrypterOptions{}
	if p.innerType != "" {
		inner.WithType(p.innerType)
	}
	if p.outerType != "" {
		outer.WithType(p.outerType)
	}
	if p.content != "" {
		outer.WithContentType(p.content)
	}
	signer, err := jose.NewSigner(p.sign, inner)
	if err != nil {
		t.Fatal(err)
	}
	sealer, err := jose.NewEncrypter(p.encryption, p.seal, outer)
	if err != nil {
		t.Fatal(err)
	}
	signed, err := jwt.Signed(signer).Claims(p.claims).Serialize()
	if err != nil {
		t.Fatal(err)
	}
	sealed, err := sealer.Encrypt([]byte(signed))
	if err != nil {
		t.Fatal(err)
	}
	token, err := sealed.CompactSerialize()
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// TestTokenForAnotherUse checks that the encryption key does not replace the signing key, and that
// a token for another audience or purpose, or in another format, is rejected, whichever of the
// deployment's keys it uses.
func TestTokenForAnotherUse(t *testing.T) {
	keys := newKeys(t)
	codec, session := newCodec(t, "d1", keys), newSession()
	set, err := keys.KeySet()
	if err != nil {
		t.Fatal(err)
	}
	_, stranger, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	curve, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signing, encryption := set.Key(keys.SigningKeyID)[0], set.Key(keys.EncryptionKeyID)[0]
	raw := encryption.Key.([]byte)
	hmacOf := func(secret []byte, id string) jose.SigningKey {
		return jose.SigningKey{Algorithm: jose.HS256, Key: jose.JSONWebKey{Key: secret, KeyID: id}}
	}
	for name, change := range map[string]func(*parts){
		"genuine": nil,

		"for another audience":      func(p *parts) { p.claims.Audience = jwt.Audience{"another-api"} },
		"for no audience":           func(p *parts) { p.claims.Audience = nil },
		"from another issuer":       func(p *parts) { p.claims.Issuer = "securenotes:d2" },
		"from no issuer":            func(p *parts) { p.claims.Issuer = "" },
		"without an expiry":         func(p *parts) { p.claims.Expiry = nil },
		"without a session":         func(p *parts) { p.claims.ID = "" },
		"without a user":            func(p *parts) { p.claims.Subject = "" },
		"expired":                   func(p *parts) { p.claims.Expiry = jwt.NewNumericDate(time.Now().Add(-time.Minute)) },
		"with the generic type":     func(p *parts) { p.innerType, p.outerType = "JWT", "JWT" },
		"with another type":         func(p *parts) { p.innerType = "at+jwt" },
		"with another outer type":   func(p *parts) { p.outerType = "at+jwt" },
		"with the type in capitals": func(p *parts) { p.innerType = "SECURENOTES-SESSION+JWT" },
		"without a type":            func(p *parts) { p.innerType = "" },
		"without an outer type":     func(p *parts) { p.outerType = "" },
		"with other content":        func(p *parts) { p.content = "text/plain" },
		"without content":           func(p *parts) { p.content = "" },

		"with its own key in the header": func(p *parts) {
			p.embed = true
			p.sign.Key = jose.JSONWebKey{Key: stranger, KeyID: keys.SigningKeyID, Use: "sig"}
		},
		"with the key's id but another key": func(p *parts) { p.sign.Key = jose.JSONWebKey{Key: stranger, KeyID: keys.SigningKeyID} },
		"with an unknown key id":            func(p *parts) { p.sign.Key = jose.JSONWebKey{Key: signing.Key, KeyID: "another"} },
		"without a key id":                  func(p *parts) { p.sign.Key = signing.Key },
		"signed with ES256": func(p *parts) {
			p.sign = jose.SigningKey{Algorithm: jose.ES256, Key: jose.JSONWebKey{Key: curve, KeyID: keys.SigningKeyID}}
		},
		"signed with HMAC of the public key": func(p *parts) {
			p.sign = hmacOf(signing.Public().Key.(ed25519.PublicKey), keys.SigningKeyID)
		},
		"signed with HMAC of the encryption key": func(p *parts) { p.sign = hmacOf(raw, keys.EncryptionKeyID) },
		"encrypted with CBC":                     func(p *parts) { p.encryption = jose.A128CBC_HS256 },
		"encrypted with a wrapped key": func(p *parts) {
			p.seal.Algorithm = jose.A256KW
		},
		"encrypted for a password": func(p *parts) {
			p.seal = jose.Recipient{Algorithm: jose.PBES2_HS256_A128KW, Key: raw, KeyID: keys.EncryptionKeyID}
		},
		"encrypted under the signing key's id": func(p *parts) {
			p.seal.Key = jose.JSONWebKey{Key: raw, KeyID: keys.SigningKeyID}
		},
	} {
		t.Run(name, func(t *testing.T) {
			p := parts{
				sign:       jose.SigningKey{Algorithm: jose.EdDSA, Key: signing},
				seal:       jose.Recipient{Algorithm: jose.DIRECT, Key: encryption},
				encryption: jose.A256GCM, innerType: tokenType, outerType: tokenType, content: "JWT", claims: claims(session),
			}
			if change != nil {
				change(&p)
			}
			identity, err := codec.Decode(p.token(t))
			if change == nil && (err != nil || identity != session.Identity) || change != nil && !errors.Is(err, ErrInvalid) {
				t.Errorf("identity %v, error %v", identity, err)
			}
		})
	}
}
