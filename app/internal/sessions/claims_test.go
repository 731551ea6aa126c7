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

// parts are what a token is made of.
type parts struct {
	sign       jose.SigningKey
	seal       jose.Recipient
	encryption jose.ContentEncryption
	// innerType, outerType and content are of the headers; empty: none.
	innerType, outerType, content jose.ContentType
	// embed puts the signing key into the header.
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

// TestTokenForAnotherUse: whoever had the encryption key still needs the signing key itself, and a token that was
// signed for somebody else, for another purpose or in another way is of no use here, with whichever of our keys.
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

		"for another audience":     func(p *parts) { p.claims.Audience = jwt.Audience{"another-api"} },
		"for no audience":          func(p *parts) { p.claims.Audience = nil },
		"of another issuer":        func(p *parts) { p.claims.Issuer = "securenotes:d2" },
		"of no issuer":             func(p *parts) { p.claims.Issuer = "" },
		"without an expiry":        func(p *parts) { p.claims.Expiry = nil },
		"without a session":        func(p *parts) { p.claims.ID = "" },
		"without a user":           func(p *parts) { p.claims.Subject = "" },
		"expired":                  func(p *parts) { p.claims.Expiry = jwt.NewNumericDate(time.Now().Add(-time.Minute)) },
		"of the general type":      func(p *parts) { p.innerType, p.outerType = "JWT", "JWT" },
		"of another type":          func(p *parts) { p.innerType = "at+jwt" },
		"of another type, outside": func(p *parts) { p.outerType = "at+jwt" },
		"of the type in capitals":  func(p *parts) { p.innerType = "SECURENOTES-SESSION+JWT" },
		"of no type":               func(p *parts) { p.innerType = "" },
		"of no type, outside":      func(p *parts) { p.outerType = "" },
		"of other content":         func(p *parts) { p.content = "text/plain" },
		"of no content":            func(p *parts) { p.content = "" },

		"a key of its own in its header": func(p *parts) {
			p.embed = true
			p.sign.Key = jose.JSONWebKey{Key: stranger, KeyID: keys.SigningKeyID, Use: "sig"}
		},
		"the key's name, not the key": func(p *parts) { p.sign.Key = jose.JSONWebKey{Key: stranger, KeyID: keys.SigningKeyID} },
		"a name of no key":            func(p *parts) { p.sign.Key = jose.JSONWebKey{Key: signing.Key, KeyID: "another"} },
		"no name of a key":            func(p *parts) { p.sign.Key = signing.Key },
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
		"encrypted under the signing key's name": func(p *parts) {
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
				t.Errorf("%v, %v", identity, err)
			}
		})
	}
}
