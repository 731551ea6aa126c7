package pepper

import (
	"testing"

	"github.com/securenotes/securenotes/app/config"
)

// fixed is a pepper whose digests are known.
var fixed = &config.Pepper{CurrentID: "p1", Peppers: map[string]string{
	"p1": "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=",
	"p2": "ICECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=",
}}

func key(t *testing.T, deployment string, p *config.Pepper, use string) *Key {
	t.Helper()
	k, err := NewKey(deployment, p, use)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// TestDigestIsStable compares with a value of another implementation, because digests are stored.
func TestDigestIsStable(t *testing.T) {
	// Python: HKDF (RFC 5869) with hmac and hashlib, then hmac.digest of the length-prefixed
	// fields.
	want := "332fa95f3feabe2c19ce30fc5e93e1f1881ddf9c4e4d00c2929247e3ecd80379"
	if got := key(t, "d1", fixed, Usernames).Digest("alice"); got != want {
		t.Errorf("digest %s, want %s", got, want)
	}
}

func TestDigestsDiffer(t *testing.T) {
	second := &config.Pepper{CurrentID: "p2", Peppers: fixed.Peppers}
	seen := map[string]string{}
	for name, digest := range map[string]string{
		"one field":          key(t, "d1", fixed, Usernames).Digest("ab"),
		"two fields":         key(t, "d1", fixed, Usernames).Digest("a", "b"),
		"two others":         key(t, "d1", fixed, Usernames).Digest("", "ab"),
		"another deployment": key(t, "d2", fixed, Usernames).Digest("ab"),
		"another use":        key(t, "d1", fixed, Requests).Digest("ab"),
		"another pepper":     key(t, "d1", second, Usernames).Digest("ab"),
	} {
		if other, taken := seen[digest]; taken {
			t.Errorf("%s and %s have the same digest", name, other)
		}
		seen[digest] = name
	}
}

func TestNoKeyFromABrokenPepper(t *testing.T) {
	if _, err := NewKey("d1", &config.Pepper{CurrentID: "p3", Peppers: fixed.Peppers}, Usernames); err == nil {
		t.Error("a key was derived from a missing pepper")
	}
}
