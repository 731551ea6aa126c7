package accounts

import (
	"context"
	"crypto/hmac"
	"crypto/sha512"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"runtime"
	"time"

	"golang.org/x/crypto/bcrypt"

	"github.com/securenotes/securenotes/app/config"
)

// hashWait is how long a login waits for a processor before it is told to come back.
const hashWait = 3 * time.Second

// Hasher hashes passwords: bcrypt over base64(HMAC-SHA-384(pepper, deployment, user, password)). The
// HMAC makes any password 64 characters, below the 72 bytes after which bcrypt stops to read, and
// without zero bytes (OWASP Password Storage Cheat Sheet, pre-hashing and peppering). Deployment and
// user are in it so that whoever can write to the database cannot log in as somebody else by putting
// the hash of a password of their own into another user's row. It is safe for concurrent use.
type Hasher struct {
	deployment string
	cost       int
	current    string
	peppers    map[string][]byte
	// dummy is the hash of a password that nobody has, so that an unknown user costs what a known
	// one does.
	dummy []byte
	// slots bounds how many passwords are hashed at once: a flood of logins must leave processor
	// time for those who are logged in.
	slots chan struct{}
}

// NewHasher returns the hasher of a deployment; it takes as long as one hash.
func NewHasher(deployment string, cost int, pepper *config.Pepper) (*Hasher, error) {
	peppers, err := pepper.Values()
	if err != nil {
		return nil, err
	}
	h := &Hasher{deployment: deployment, cost: cost, current: pepper.CurrentID, peppers: peppers, slots: make(chan struct{}, runtime.GOMAXPROCS(0))}
	h.dummy, err = bcrypt.GenerateFromPassword(h.keyed("", "no password has this text", h.current), cost)
	if err != nil {
		return nil, fmt.Errorf("password hashing: %w", err)
	}
	return h, nil
}

func (h *Hasher) keyed(user, password, pepper string) []byte {
	return h.mac(pepper, h.deployment, user, password)
}

// recoveryDigest is what is stored of a recovery code. A code has 130 random bits, so that no slow hash
// is needed; the pepper is in it, so that whoever writes to the database cannot add one.
func (h *Hasher) recoveryDigest(user, code, pepper string) string {
	return string(h.mac(pepper, h.deployment, user, "securenotes/recovery-code/v1", code))
}

// recoveryDigests are those that an older pepper may have given, too.
func (h *Hasher) recoveryDigests(user, code string) []string {
	var digests []string
	for pepper := range h.peppers {
		digests = append(digests, h.recoveryDigest(user, code, pepper))
	}
	return digests
}

func (h *Hasher) mac(pepper string, fields ...string) []byte {
	mac := hmac.New(sha512.New384, h.peppers[pepper])
	// Each field after its length, so that no two sequences give the same bytes.
	for _, field := range fields {
		var length [8]byte
		binary.BigEndian.PutUint64(length[:], uint64(len(field)))
		mac.Write(length[:])
		mac.Write([]byte(field))
	}
	return []byte(base64.StdEncoding.EncodeToString(mac.Sum(nil)))
}

// Hash returns the hash of a user's password and the id of its pepper. user is the user's id.
func (h *Hasher) Hash(ctx context.Context, user, password string) (hash, pepper string, err error) {
	if err := h.enter(ctx); err != nil {
		return "", "", err
	}
	defer h.leave()
	raw, err := bcrypt.GenerateFromPassword(h.keyed(user, password, h.current), h.cost)
	if err != nil {
		return "", "", fmt.Errorf("password hashing: %w", err)
	}
	return string(raw), h.current, nil
}

// Verify returns ErrInvalidCredentials unless the password is the user's. For a nil user it does
// the same work and returns the same error. When its turn has come it first asks admit.
func (h *Hasher) Verify(ctx context.Context, user *User, password string, admit func() error) error {
	if err := h.enter(ctx); err != nil {
		return err
	}
	defer h.leave()
	if err := admit(); err != nil {
		return err
	}
	hash, pepper, id := h.dummy, h.current, ""
	if user != nil {
		hash, pepper, id = []byte(user.PasswordHash), user.PepperID, user.ID
		if h.peppers[pepper] == nil {
			return fmt.Errorf("password of user %s: pepper %q is not in Vault", user.ID, pepper)
		}
	}
	err := bcrypt.CompareHashAndPassword(hash, h.keyed(id, password, pepper))
	switch {
	case errors.Is(err, bcrypt.ErrMismatchedHashAndPassword), err == nil && user == nil:
		return ErrInvalidCredentials
	case err != nil:
		return fmt.Errorf("password of user %s: its hash is damaged", user.ID)
	}
	return nil
}

// Outdated says whether the user's hash is of another cost or pepper than new ones: until it is made
// anew, it tells by its time that the user exists.
func (h *Hasher) Outdated(user User) bool {
	cost, err := bcrypt.Cost([]byte(user.PasswordHash))
	return err == nil && (cost != h.cost || user.PepperID != h.current)
}

func (h *Hasher) enter(ctx context.Context) error {
	timer := time.NewTimer(hashWait)
	defer timer.Stop()
	select {
	case h.slots <- struct{}{}:
		return nil
	case <-timer.C:
		return ErrBusy
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (h *Hasher) leave() { <-h.slots }
