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
	"sync/atomic"

	"golang.org/x/crypto/bcrypt"

	"github.com/securenotes/securenotes/app/config"
)

// Hasher hashes passwords: bcrypt over base64(HMAC-SHA-384(pepper, deployment, user, password)).
// The HMAC turns any password into 64 characters without zero bytes, because bcrypt ignores what
// follows 72 bytes (OWASP Password Storage Cheat Sheet, pre-hashing and peppering). It includes the
// deployment and the user, so that an attacker who writes to the database cannot log in as another
// user by copying the hash of a known password into that user's row. It is safe for concurrent use.
type Hasher struct {
	deployment string
	cost       int
	current    string
	peppers    map[string][]byte
	// dummy is a hash that no password has. It makes a login of an unknown user cost as much as
	// that of a known one.
	dummy []byte
	queue *hashQueue
	// lost means that a pepper that a user's password needs is missing.
	lost atomic.Bool
}

// request is a request that needs a password hashed.
type request struct {
	purpose purpose
	// parties are for whom the request counts: an address, a username, a signed-in user.
	parties []string
	// admit, if it is not nil, is called once the request has obtained a slot. If it returns an
	// error, the request fails with that error.
	admit func() error
	// verified, if it is not nil, is called with the outcome while the request still has its slot.
	verified func(error)
}

// NewHasher returns the hasher of a deployment. It takes as long as one hash.
func NewHasher(deployment string, cost int, pepper *config.Pepper) (*Hasher, error) {
	peppers, err := pepper.Values()
	if err != nil {
		return nil, err
	}
	h := &Hasher{deployment: deployment, cost: cost, current: pepper.CurrentID, peppers: peppers, queue: newHashQueue(runtime.GOMAXPROCS(0))}
	h.dummy, err = bcrypt.GenerateFromPassword(h.keyed("", "no password has this text", h.current), cost)
	if err != nil {
		return nil, fmt.Errorf("password hashing: %w", err)
	}
	return h, nil
}

func (h *Hasher) keyed(user, password, pepper string) []byte {
	return h.mac(pepper, h.deployment, user, password)
}

// recoveryDigest returns the digest that is stored for a recovery code. A code has 130 random bits
// and needs no slow hash. The digest includes the pepper, so that an attacker who writes to the
// database cannot add a code.
func (h *Hasher) recoveryDigest(user, code, pepper string) string {
	return string(h.mac(pepper, h.deployment, user, "securenotes/recovery-code/v1", code))
}

// recoveryDigests returns the possible digests of a recovery code, one for each pepper.
func (h *Hasher) recoveryDigests(user, code string) []string {
	var digests []string
	for pepper := range h.peppers {
		digests = append(digests, h.recoveryDigest(user, code, pepper))
	}
	return digests
}

func (h *Hasher) mac(pepper string, fields ...string) []byte {
	mac := hmac.New(sha512.New384, h.peppers[pepper])
	// Each field follows its length, so that no two sequences give the same bytes.
	for _, field := range fields {
		var length [8]byte
		binary.BigEndian.PutUint64(length[:], uint64(len(field)))
		mac.Write(length[:])
		mac.Write([]byte(field))
	}
	return []byte(base64.StdEncoding.EncodeToString(mac.Sum(nil)))
}

// hash returns the hash of a user's password and the id of its pepper. user is the user's id.
// Errors: ErrBusy, and those of the request's admit.
func (h *Hasher) hash(ctx context.Context, r request, user, password string) (hash, pepper string, err error) {
	leave, err := h.enter(ctx, r)
	if err != nil {
		return "", "", err
	}
	defer leave()
	raw, err := bcrypt.GenerateFromPassword(h.keyed(user, password, h.current), h.cost)
	if err != nil {
		return "", "", fmt.Errorf("password hashing: %w", err)
	}
	return string(raw), h.current, nil
}

// PepperLost makes every failed login end with ErrPepperLost. Otherwise an attacker could tell
// users whose pepper is missing from users that do not exist.
func (h *Hasher) PepperLost() { h.lost.Store(true) }

// loginError returns the error that a failed login ends with.
func (h *Hasher) loginError(err error) error {
	if errors.Is(err, ErrInvalidCredentials) && h.lost.Load() {
		return ErrPepperLost
	}
	return err
}

// verify returns ErrInvalidCredentials unless the password is the user's. For a nil user it does
// the same work and returns the same error. Errors: also ErrPepperLost for a user whose pepper is
// missing, ErrBusy, and those of the request's admit.
func (h *Hasher) verify(ctx context.Context, r request, user *User, password string) error {
	leave, err := h.enter(ctx, r)
	if err != nil {
		return err
	}
	defer leave()
	err = h.compare(user, password)
	if r.verified != nil {
		r.verified(err)
	}
	return err
}

// compare returns ErrInvalidCredentials unless the password is the user's.
func (h *Hasher) compare(user *User, password string) error {
	hash, pepper, id := h.dummy, h.current, ""
	lost := user != nil && h.peppers[user.PepperID] == nil
	if user != nil && !lost {
		hash, pepper, id = []byte(user.PasswordHash), user.PepperID, user.ID
	}
	err := bcrypt.CompareHashAndPassword(hash, h.keyed(id, password, pepper))
	switch {
	case lost:
		h.PepperLost()
		return fmt.Errorf("password of user %s: %w: %q", user.ID, ErrPepperLost, user.PepperID)
	case errors.Is(err, bcrypt.ErrMismatchedHashAndPassword), err == nil && user == nil:
		return ErrInvalidCredentials
	case err != nil:
		return fmt.Errorf("password of user %s: its hash is damaged", user.ID)
	}
	return nil
}

// Outdated reports whether the user's hash has another cost or pepper than new hashes. Until it is
// replaced, the duration of a login reveals that the user exists.
func (h *Hasher) Outdated(user User) bool {
	cost, err := bcrypt.Cost([]byte(user.PasswordHash))
	return err == nil && (cost != h.cost || user.PepperID != h.current)
}

// enter waits for the request's slot, and then checks that the request is still admitted.
func (h *Hasher) enter(ctx context.Context, r request) (leave func(), err error) {
	if leave, err = h.queue.enter(ctx, r.purpose, r.parties...); err != nil {
		return nil, err
	}
	if r.admit != nil {
		if err := r.admit(); err != nil {
			leave()
			return nil, err
		}
	}
	return leave, nil
}
