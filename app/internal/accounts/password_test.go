package accounts

import (
	"context"
	"crypto/sha512"
	"encoding/base64"
	"errors"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"

	"github.com/securenotes/securenotes/app/config"
)

func newHasher(t testing.TB) *Hasher {
	t.Helper()
	// The cost does not matter here. The configuration requires at least 12.
	h, err := NewHasher("d1", bcrypt.MinCost, config.NewPepper())
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// login is a request of one client without limits.
var login = request{purpose: forLogin, parties: []string{"192.0.2.1"}}

func hashed(t testing.TB, h *Hasher, password string) *User {
	t.Helper()
	hash, pepper, err := h.hash(context.Background(), login, "u", password)
	if err != nil {
		t.Fatal(err)
	}
	return &User{ID: "u", PasswordHash: hash, PepperID: pepper}
}

func TestPasswordIsNotCut(t *testing.T) {
	h := newHasher(t)
	// bcrypt alone reads 72 bytes.
	long := strings.Repeat("x", 200)
	user := hashed(t, h, long)
	if err := h.verify(context.Background(), login, user, long); err != nil {
		t.Errorf("the right password: %v", err)
	}
	for _, wrong := range []string{long[:199], long[:72], long + "x", strings.Repeat("x", 199) + "y", ""} {
		if err := h.verify(context.Background(), login, user, wrong); !errors.Is(err, ErrInvalidCredentials) {
			t.Errorf("%d characters: %v", len(wrong), err)
		}
	}
}

func TestNobodyHasThePasswordOfTheDummyHash(t *testing.T) {
	h := newHasher(t)
	if err := h.verify(context.Background(), login, nil, "no password has this text"); !errors.Is(err, ErrInvalidCredentials) {
		t.Errorf("unknown user: %v", err)
	}
}

func TestPepperIsPartOfTheHash(t *testing.T) {
	h := newHasher(t)
	user := hashed(t, h, "correct horse battery")
	other := newHasher(t)
	if err := other.verify(context.Background(), login, user, "correct horse battery"); !errors.Is(err, ErrPepperLost) || errors.Is(err, ErrInvalidCredentials) {
		t.Errorf("a missing pepper must not look like a wrong password: %v", err)
	}
}

// TestLostPepperCostsAHash: the duration of a login does not reveal that the user's pepper is
// missing.
func TestLostPepperCostsAHash(t *testing.T) {
	h, err := NewHasher("d1", 10, config.NewPepper())
	if err != nil {
		t.Fatal(err)
	}
	fastest := func(user *User) time.Duration {
		least := time.Hour
		for range 3 {
			start := time.Now()
			if err := h.compare(user, "wrong horse battery"); err == nil {
				t.Fatal("a wrong password was accepted")
			}
			least = min(least, time.Since(start))
		}
		return least
	}
	unknown, lost := fastest(nil), fastest(&User{ID: "u", PasswordHash: string(h.dummy), PepperID: "lost"})
	if lost < unknown/2 {
		t.Errorf("a login without the pepper takes %s, one of an unknown user %s", lost, unknown)
	}
}

func TestUsernames(t *testing.T) {
	for given, want := range map[string]string{
		"alice": "alice", "Alice": "alice", " alice ": "alice", "ａｌｉｃｅ": "alice", "Ärger": "ärger",
		"al": "", "": "", "a b c": "", "ali\x00ce": "", strings.Repeat("a", 65): "", "\xff\xff\xff": "",
		" " + strings.Repeat("a", 64): "",
	} {
		got, err := canonicalUsername(given)
		if _, invalid := errors.AsType[*InvalidError](err); got != want || invalid != (want == "") {
			t.Errorf("%q: %q, %v; want %q", given, got, err, want)
		}
	}
}

func FuzzCanonicalUsername(f *testing.F) {
	f.Add("Alice")
	f.Fuzz(func(t *testing.T, given string) {
		once, err := canonicalUsername(given)
		if err != nil {
			return
		}
		if twice, err := canonicalUsername(once); err != nil || twice != once {
			t.Errorf("%q becomes %q, and that %q, %v", given, once, twice, err)
		}
	})
}

// TestHashIsOfOneUser: a hash that was moved to another user's row or to another deployment matches
// no password.
func TestHashIsOfOneUser(t *testing.T) {
	pepper := config.NewPepper()
	hasher := func(deployment string) *Hasher {
		h, err := NewHasher(deployment, bcrypt.MinCost, pepper)
		if err != nil {
			t.Fatal(err)
		}
		return h
	}
	h := hasher("d1")
	user := hashed(t, h, "correct horse battery")
	victim := *user
	victim.ID = "v"
	if err := h.verify(context.Background(), login, &victim, "correct horse battery"); !errors.Is(err, ErrInvalidCredentials) {
		t.Errorf("in another user's row: %v", err)
	}
	if err := hasher("d2").verify(context.Background(), login, user, "correct horse battery"); !errors.Is(err, ErrInvalidCredentials) {
		t.Errorf("in another deployment: %v", err)
	}
	if err := h.verify(context.Background(), login, user, "correct horse battery"); err != nil {
		t.Errorf("in its place: %v", err)
	}
}

// TestRecoveryCodesAreStoredAsDigests: a digest depends on the user and the pepper, and does not
// contain the code.
func TestRecoveryCodesAreStoredAsDigests(t *testing.T) {
	h, other := newHasher(t), newHasher(t)
	const code = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
	digest := h.recoveryDigest("u", code, h.current)
	if raw, err := base64.StdEncoding.DecodeString(digest); err != nil || len(raw) != sha512.Size384 || strings.Contains(digest, code) {
		t.Errorf("digest %q, %v", digest, err)
	}
	if h.recoveryDigest("u", code, h.current) != digest {
		t.Error("the same code has two digests")
	}
	for what, differs := range map[string]string{
		"another user":   h.recoveryDigest("v", code, h.current),
		"another code":   h.recoveryDigest("u", code[1:]+"A", h.current),
		"another pepper": other.recoveryDigest("u", code, other.current),
		"a password":     string(h.keyed("u", code, h.current)),
	} {
		if differs == digest {
			t.Errorf("%s has the same digest", what)
		}
	}
}
