package sessions

import (
	"crypto/ed25519"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	"github.com/google/uuid"

	"github.com/securenotes/securenotes/app/config"
)

func newKeys(t testing.TB) *config.SessionKeys {
	t.Helper()
	keys, err := config.NewSessionKeys()
	if err != nil {
		t.Fatal(err)
	}
	return keys
}

func newCodec(t testing.TB, deployment string, keys *config.SessionKeys) *Codec {
	t.Helper()
	return newCodecOf(t, deployment, "", keys)
}

func newCodecOf(t testing.TB, deployment, epoch string, keys *config.SessionKeys) *Codec {
	t.Helper()
	codec, err := NewCodec(deployment, epoch, keys)
	if err != nil {
		t.Fatal(err)
	}
	return codec
}

func newSession() Session {
	now := time.Now().Truncate(time.Second)
	return Session{
		Identity:  Identity{Owner: uuid.NewString(), Session: uuid.NewString()},
		CreatedAt: now, ExpiresAt: now.Add(time.Hour),
	}
}

func TestTokenIsReadBack(t *testing.T) {
	codec, session := newCodec(t, "d1", newKeys(t)), newSession()
	token, err := codec.Encode(session)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(token, session.Owner) || strings.Count(token, ".") != 4 {
		t.Errorf("the token is not encrypted: %s", token)
	}
	if identity, err := codec.Decode(token); err != nil || identity != session.Identity {
		t.Errorf("%v, %v; want %v", identity, err, session.Identity)
	}
}

// TestRememberedTokenExpires checks the times of a token that is in the cache.
func TestRememberedTokenExpires(t *testing.T) {
	codec, session := newCodec(t, "d1", newKeys(t)), newSession()
	token, err := codec.Encode(session)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if identity, err := codec.Decode(token); err != nil || identity != session.Identity {
			t.Errorf("%v, %v; want %v", identity, err, session.Identity)
		}
	}
	codec.now = func() time.Time { return session.ExpiresAt.Add(leeway + time.Second) }
	if _, err := codec.Decode(token); !errors.Is(err, ErrInvalid) {
		t.Errorf("after it has expired: %v", err)
	}
	codec.now = func() time.Time { return session.CreatedAt.Add(-leeway - time.Second) }
	if _, err := codec.Decode(token); !errors.Is(err, ErrInvalid) {
		t.Errorf("before it is valid: %v", err)
	}
}

func TestTokenIsRefused(t *testing.T) {
	keys := newKeys(t)
	codec, session := newCodec(t, "d1", keys), newSession()
	encode := func(c *Codec, s Session) string {
		token, err := c.Encode(s)
		if err != nil {
			t.Fatal(err)
		}
		return token
	}
	token := encode(codec, session)
	expired, early := session, session
	expired.ExpiresAt = time.Now().Add(-time.Minute)
	early.CreatedAt = time.Now().Add(10 * time.Minute)
	noUUID := session
	noUUID.Owner = "alice"
	for name, forged := range map[string]string{
		"empty":                     "",
		"no token":                  "a.b.c.d.e",
		"cut off":                   token[:len(token)-2],
		"longer":                    token + "A",
		"too long":                  token + strings.Repeat("A", MaxToken),
		"expired":                   encode(codec, expired),
		"not valid yet":             encode(codec, early),
		"subject is no id":          encode(codec, noUUID),
		"of another deployment":     encode(newCodec(t, "d2", keys), session),
		"under other keys":          encode(newCodec(t, "d1", newKeys(t)), session),
		"signed, but not encrypted": signedOnly(t, keys, session),
		"with HMAC for a signature": nested(t, keys, session, func(set *jose.JSONWebKeySet) jose.SigningKey {
			public := set.Key(keys.SigningKeyID)[0].Public().Key.(ed25519.PublicKey)
			return jose.SigningKey{Algorithm: jose.HS256, Key: jose.JSONWebKey{Key: []byte(public), KeyID: keys.SigningKeyID}}
		}),
		"without an expiry": nested(t, keys, Session{Identity: session.Identity}, func(set *jose.JSONWebKeySet) jose.SigningKey {
			return jose.SigningKey{Algorithm: jose.EdDSA, Key: set.Key(keys.SigningKeyID)[0]}
		}),
	} {
		t.Run(name, func(t *testing.T) {
			if identity, err := codec.Decode(forged); !errors.Is(err, ErrInvalid) {
				t.Errorf("accepted as %v, %v", identity, err)
			}
		})
	}
}

func TestOlderKeysStillRead(t *testing.T) {
	older, newer := newKeys(t), newKeys(t)
	session := newSession()
	token, err := newCodec(t, "d1", older).Encode(session)
	if err != nil {
		t.Fatal(err)
	}
	both := *newer
	both.JWKS = strings.TrimSuffix(older.JWKS, "]}") + "," + strings.TrimPrefix(newer.JWKS, `{"keys":[`)
	if identity, err := newCodec(t, "d1", &both).Decode(token); err != nil || identity != session.Identity {
		t.Errorf("%v, %v", identity, err)
	}
}

func claims(s Session) jwt.Claims {
	c := jwt.Claims{Issuer: "securenotes:d1", Audience: jwt.Audience{audience}, Subject: s.Owner, ID: s.Session}
	if !s.ExpiresAt.IsZero() {
		c.Expiry = jwt.NewNumericDate(s.ExpiresAt)
	}
	return c
}

func signedOnly(t testing.TB, keys *config.SessionKeys, s Session) string {
	t.Helper()
	set, err := keys.KeySet()
	if err != nil {
		t.Fatal(err)
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.EdDSA, Key: set.Key(keys.SigningKeyID)[0]}, (&jose.SignerOptions{}).WithType(tokenType))
	if err != nil {
		t.Fatal(err)
	}
	token, err := jwt.Signed(signer).Claims(claims(s)).Serialize()
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// nested encrypts a token with the genuine key, signed in a way that the test chooses.
func nested(t testing.TB, keys *config.SessionKeys, s Session, sign func(*jose.JSONWebKeySet) jose.SigningKey) string {
	t.Helper()
	set, err := keys.KeySet()
	if err != nil {
		t.Fatal(err)
	}
	signer, err := jose.NewSigner(sign(set), (&jose.SignerOptions{}).WithType(tokenType))
	if err != nil {
		t.Fatal(err)
	}
	sealer, err := jose.NewEncrypter(jose.A256GCM, jose.Recipient{Algorithm: jose.DIRECT, Key: set.Key(keys.EncryptionKeyID)[0]},
		(&jose.EncrypterOptions{}).WithType(tokenType).WithContentType("JWT"))
	if err != nil {
		t.Fatal(err)
	}
	token, err := jwt.SignedAndEncrypted(signer, sealer).Claims(claims(s)).Serialize()
	if err != nil {
		t.Fatal(err)
	}
	return token
}

func FuzzDecode(f *testing.F) {
	codec, session := newCodec(f, "d1", newKeys(f)), newSession()
	genuine, err := codec.Encode(session)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(genuine)
	f.Add("a.b.c.d.e")
	f.Fuzz(func(t *testing.T, token string) {
		// The last character of base64url has unused bits, so a different text can be the same
		// token.
		if identity, err := codec.Decode(token); err == nil && identity != session.Identity {
			t.Errorf("accepted a forgery as %v: %q", identity, token)
		}
	})
}

// TestTokenOfAnotherEpoch checks that neither a pod that used the database before a restore, nor
// one that uses the restored database, accepts the tokens of the other. Each epoch has the same
// keys.
func TestTokenOfAnotherEpoch(t *testing.T) {
	keys, session := newKeys(t), newSession()
	epochs := []string{"", "abcdefghijklmnop", "qrstuvwxyz234567"}
	for _, of := range epochs {
		token, err := newCodecOf(t, "d1", of, keys).Encode(session)
		if err != nil {
			t.Fatal(err)
		}
		for _, at := range epochs {
			identity, err := newCodecOf(t, "d1", at, keys).Decode(token)
			if of == at && (err != nil || identity != session.Identity) || of != at && !errors.Is(err, ErrInvalid) {
				t.Errorf("a token of epoch %q at %q: %v, %v", of, at, identity, err)
			}
		}
	}
}
