package accounts

import (
	"context"
	"crypto/hmac"
	"crypto/sha512"
	"encoding/base64"
	"errors"
	"fmt"
	"runtime"
	"time"

	"golang.org/x/crypto/bcrypt"

	"github.com/securenotes/securenotes/app/config"
)

// hashWait is how long a login waits for a processor before it is told to come back.
const hashWait = 3 * time.Second

// Hasher hashes passwords: bcrypt over base64(HMAC-SHA-384(pepper, password)). The HMAC makes any
// password 64 characters, below the 72 bytes after which bcrypt stops to read, and without zero
// bytes (OWASP Password Storage Cheat Sheet, pre-hashing and peppering). It is safe for concurrent use.
type Hasher struct {
	cost    int
	current string
	peppers map[string][]byte
	// dummy is the hash of a password that nobody has, so that an unknown user costs what a known
	// one does.
	dummy []byte
	// slots bounds how many passwords are hashed at once: a flood of logins must leave processor
	// time for those who are logged in.
	slots chan struct{}
}

// NewHasher returns a hasher; it takes as long as one hash.
func NewHasher(cost int, pepper *config.Pepper) (*Hasher, error) {
	peppers, err := pepper.Values()
	if err != nil {
		return nil, err
	}
	h := &Hasher{cost: cost, current: pepper.CurrentID, peppers: peppers, slots: make(chan struct{}, runtime.GOMAXPROCS(0))}
	h.dummy, err = bcrypt.GenerateFromPassword(h.keyed("no password has this text", h.current), cost)
	if err != nil {
		return nil, fmt.Errorf("password hashing: %w", err)
	}
	return h, nil
}

func (h *Hasher) keyed(password, pepper string) []byte {
	mac := hmac.New(sha512.New384, h.peppers[pepper])
	mac.Write([]byte(password))
	return []byte(base64.StdEncoding.EncodeToString(mac.Sum(nil)))
}

// Hash returns the password's hash and the id of its pepper.
func (h *Hasher) Hash(ctx context.Context, password string) (hash, pepper string, err error) {
	if err := h.enter(ctx); err != nil {
		return "", "", err
	}
	defer h.leave()
	raw, err := bcrypt.GenerateFromPassword(h.keyed(password, h.current), h.cost)
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
	hash, pepper := h.dummy, h.current
	if user != nil {
		hash, pepper = []byte(user.PasswordHash), user.PepperID
		if h.peppers[pepper] == nil {
			return fmt.Errorf("password of user %s: pepper %q is not in Vault", user.ID, pepper)
		}
	}
	err := bcrypt.CompareHashAndPassword(hash, h.keyed(password, pepper))
	switch {
	case errors.Is(err, bcrypt.ErrMismatchedHashAndPassword), err == nil && user == nil:
		return ErrInvalidCredentials
	case err != nil:
		return fmt.Errorf("password of user %s: its hash is damaged", user.ID)
	}
	return nil
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
