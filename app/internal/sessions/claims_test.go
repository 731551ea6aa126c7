package sessions

import (
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"testing"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
)

// TestTokenForAnotherUse: whoever had the encryption key still needs the signing key itself, and a token
// that was signed for somebody else is of no use here.
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
	genuine := set.Key(keys.SigningKeyID)[0]
	embedded := jose.JSONWebKey{Key: stranger, KeyID: keys.SigningKeyID, Use: "sig"}
	other := claims(session)
	other.Audience = jwt.Audience{"another-api"}
	none := claims(session)
	none.Audience = nil
	for name, tc := range map[string]struct {
		key    jose.JSONWebKey
		embed  bool
		claims jwt.Claims
		ok     bool
	}{
		"genuine":                        {genuine, false, claims(session), true},
		"for another audience":           {genuine, false, other, false},
		"for no audience":                {genuine, false, none, false},
		"a key of its own in its header": {embedded, true, claims(session), false},
		"the key's name, not the key":    {embedded, false, claims(session), false},
	} {
		t.Run(name, func(t *testing.T) {
			signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.EdDSA, Key: tc.key}, &jose.SignerOptions{EmbedJWK: tc.embed})
			if err != nil {
				t.Fatal(err)
			}
			sealer, err := jose.NewEncrypter(jose.A256GCM, jose.Recipient{Algorithm: jose.DIRECT, Key: set.Key(keys.EncryptionKeyID)[0]},
				(&jose.EncrypterOptions{}).WithContentType("JWT"))
			if err != nil {
				t.Fatal(err)
			}
			token, err := jwt.SignedAndEncrypted(signer, sealer).Claims(tc.claims).Serialize()
			if err != nil {
				t.Fatal(err)
			}
			identity, err := codec.Decode(token)
			if tc.ok && (err != nil || identity != session.Identity) || !tc.ok && !errors.Is(err, ErrInvalid) {
				t.Errorf("%v, %v", identity, err)
			}
		})
	}
}
