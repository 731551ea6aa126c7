package accounts

import (
	"context"
	"crypto/rand"
	"encoding/base32"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/pquerna/otp"
	"github.com/pquerna/otp/hotp"
	"github.com/pquerna/otp/totp"

	"github.com/securenotes/securenotes/app/internal/envelope"
	"github.com/securenotes/securenotes/app/internal/sessions"
)

// Time-based one-time passwords (RFC 6238) that every authenticator app supports: SHA-1, six digits
// and a step of 30 s. A code of the previous or next step is accepted, because clocks differ.
const (
	totpIssuer = "SecureNotes"
	totpStep   = 30 // seconds
	totpSkew   = 1  // steps
	totpDigits = otp.DigitsSix
	// seedSize is in bytes (RFC 4226, section 4: 160 bits).
	seedSize = 20
)

// Recovery codes replace a lost authenticator. Each works once: 26 characters of base32, 130 bits.
const (
	recoveryCodes    = 10
	recoveryCodeSize = 26
)

// Errors of the second factor, told apart with errors.Is.
var (
	// ErrCodeRequired means that the password is right and the user has a second factor.
	ErrCodeRequired = errors.New("the code of the second factor is required")
	// ErrInvalidCode means that the code is wrong, too old, or was used before.
	ErrInvalidCode = errors.New("invalid code of the second factor")
	// ErrSecondFactorExists means that the user has confirmed a second factor already.
	ErrSecondFactorExists = errors.New("a second factor is set up already")
	// ErrNoSecondFactor means that there is no second factor to confirm or to remove.
	ErrNoSecondFactor = errors.New("no second factor is set up")
)

// SecondFactor is a seed as it is stored.
type SecondFactor struct {
	// ID is a random UUID.
	ID string
	// KeyID is the owner key that Seed is sealed with.
	KeyID string
	Seed  []byte
	// LastStep is the time step of the last accepted code. Codes of that step and of earlier ones
	// are not accepted again.
	LastStep  int64
	CreatedAt time.Time
}

// Proof shows that the user has the second factor. Exactly one field is set, or none if the user
// has no second factor. The store accepts it once.
type Proof struct {
	// Step is the time step of the code.
	Step int64
	// Recovery are the possible stored digests of a recovery code, one for each pepper.
	Recovery []string
}

func (p Proof) factor() Factor {
	switch {
	case p.Step > 0:
		return FactorTOTP
	case len(p.Recovery) > 0:
		return FactorRecovery
	}
	return FactorNone
}

// Factor is what a user has shown besides the password, as recorded in the audit log.
type Factor string

// The factors.
const (
	FactorNone     Factor = ""
	FactorTOTP     Factor = "totp"
	FactorRecovery Factor = "recovery"
)

// SecondFactorStatus is the status of a user's second factor.
type SecondFactorStatus struct {
	Enabled bool
	// RecoveryCodes is how many are left.
	RecoveryCodes int
}

// ProposedSecondFactor is what an authenticator app needs.
type ProposedSecondFactor struct {
	// Secret is the seed in base32.
	Secret string
	// URI is for a QR code: otpauth://totp/...
	URI string
}

// SecondFactorStore is what the second factor needs of the database.
type SecondFactorStore interface {
	ActiveKey(context.Context, sessions.Identity, time.Time) (envelope.StoredKey, error)
	// ProposeSecondFactor stores a factor and replaces one that was proposed before. It reports
	// false if the owner key is not active. Errors: ErrSecondFactorExists, sessions.ErrInvalid.
	ProposeSecondFactor(context.Context, sessions.Identity, time.Time, SecondFactor) (bool, error)
	// SecondFactor returns the user's factor, confirmed or not. Errors: ErrNoSecondFactor.
	SecondFactor(ctx context.Context, owner string) (SecondFactor, envelope.StoredKey, error)
	// ConfirmSecondFactor confirms the proposed factor, stores the digests of its recovery codes,
	// and ends the user's other sessions. Errors: sessions.ErrInvalid, ErrInvalidCode,
	// ErrSecondFactorExists.
	ConfirmSecondFactor(ctx context.Context, id sessions.Identity, now time.Time, factor string, proof Proof, recovery []string) error
	// RemoveSecondFactor removes the user's factor and recovery codes. Errors: sessions.ErrInvalid,
	// ErrInvalidCode, ErrNoSecondFactor.
	RemoveSecondFactor(ctx context.Context, id sessions.Identity, now time.Time, user User, proof Proof) error
	// SecondFactorStatus returns the status of the user's second factor. Errors:
	// sessions.ErrInvalid.
	SecondFactorStatus(context.Context, sessions.Identity, time.Time) (SecondFactorStatus, error)
}

// ProposeSecondFactor creates a seed, which has no effect until it is confirmed. Errors:
// sessions.ErrInvalid; ErrInvalidCredentials when the password is wrong; ErrSecondFactorExists.
func (s *Service) ProposeSecondFactor(ctx context.Context, id sessions.Identity, address, password string) (ProposedSecondFactor, error) {
	user, err := s.verifyUser(ctx, id, address, password)
	if err != nil {
		return ProposedSecondFactor{}, err
	}
	if user.SecondFactor != "" {
		return ProposedSecondFactor{}, ErrSecondFactorExists
	}
	seed := make([]byte, seedSize)
	rand.Read(seed)
	defer clear(seed)
	factor := SecondFactor{ID: uuid.NewString(), CreatedAt: s.now()}
	if err := s.storeProposal(ctx, id, factor, seed); err != nil {
		return ProposedSecondFactor{}, err
	}
	key, err := totp.Generate(totp.GenerateOpts{
		Issuer: totpIssuer, AccountName: user.Username, Secret: seed, Period: totpStep, Digits: totpDigits, Algorithm: otp.AlgorithmSHA1,
	})
	if err != nil {
		return ProposedSecondFactor{}, fmt.Errorf("second factor: %w", err)
	}
	return ProposedSecondFactor{Secret: key.Secret(), URI: key.URL()}, nil
}

// storeProposal seals the seed with the owner's active key and stores the factor.
func (s *Service) storeProposal(ctx context.Context, id sessions.Identity, factor SecondFactor, seed []byte) error {
	keys := s.keys.ActiveKeys(id.Owner, 1, func(ctx context.Context) (envelope.StoredKey, error) {
		return s.store.ActiveKey(ctx, id, s.now())
	})
	for keys.Next(ctx) {
		factor.KeyID, factor.Seed = keys.Key().ID(), keys.Key().Seal(seedPlace(factor.ID), seed)
		if stored, err := s.store.ProposeSecondFactor(ctx, id, s.now(), factor); err != nil || stored {
			return err
		}
	}
	return keys.Err()
}

// ConfirmSecondFactor confirms the proposed factor with one of its codes, and ends the user's other
// sessions. It returns the recovery codes, which are not shown again. Errors: sessions.ErrInvalid,
// ErrNoSecondFactor, ErrSecondFactorExists, ErrInvalidCode.
func (s *Service) ConfirmSecondFactor(ctx context.Context, id sessions.Identity, address, code string) ([]string, error) {
	user, err := s.store.UserBySession(ctx, id, s.now())
	if err != nil {
		return nil, err
	}
	if user.SecondFactor != "" {
		return nil, ErrSecondFactorExists
	}
	// The code counts for the proposal only. A stolen token cannot propose a factor, and must not
	// use up the user's codes.
	proposed, _, err := s.store.SecondFactor(ctx, user.ID)
	if err != nil {
		return nil, err
	}
	if err := s.limits.TakeProposalCode(ctx, proposed.ID); err != nil {
		return nil, err
	}
	factor, step, err := s.matchCode(ctx, user.ID, code)
	if err == nil && factor.ID != proposed.ID {
		err = ErrInvalidCode // the proposal was replaced since the code was counted
	}
	if err != nil {
		return nil, err
	}
	codes, digests := s.newRecoveryCodes(user.ID)
	proof := Proof{Step: step}
	if err := s.store.ConfirmSecondFactor(ctx, id, s.now(), factor.ID, proof, digests); err != nil {
		return nil, err
	}
	s.codeAccepted(ctx, user.ID, address, proof)
	return codes, nil
}

// newRecoveryCodes returns new recovery codes for the user, and the digests to store.
func (s *Service) newRecoveryCodes(user string) (codes, digests []string) {
	for range recoveryCodes {
		code := rand.Text()[:recoveryCodeSize]
		codes = append(codes, grouped(code))
		digests = append(digests, s.hasher.recoveryDigest(user, code, s.hasher.current))
	}
	return codes, digests
}

// RemoveSecondFactor removes the user's second factor. Errors: sessions.ErrInvalid;
// ErrInvalidCredentials when the password is wrong; ErrNoSecondFactor, ErrCodeRequired,
// ErrInvalidCode.
func (s *Service) RemoveSecondFactor(ctx context.Context, id sessions.Identity, address string, shown Reauthentication) error {
	user, err := s.verifyUser(ctx, id, address, shown.Password)
	if err != nil {
		return err
	}
	if user.SecondFactor == "" {
		return ErrNoSecondFactor
	}
	proof, err := s.prove(ctx, user, address, shown.Code)
	if err == nil {
		err = s.store.RemoveSecondFactor(ctx, id, s.now(), user, proof)
	}
	if err != nil {
		return err
	}
	s.codeAccepted(ctx, user.ID, address, proof)
	return nil
}

// SecondFactorStatus returns the status of the user's second factor. Errors: sessions.ErrInvalid.
func (s *Service) SecondFactorStatus(ctx context.Context, id sessions.Identity) (SecondFactorStatus, error) {
	return s.store.SecondFactorStatus(ctx, id, s.now())
}

// prove checks a code of the user's second factor, or accepts a recovery code by its form. A user
// without a second factor needs no code. The store checks whether the code was used before.
func (s *Service) prove(ctx context.Context, user User, address, code string) (Proof, error) {
	if user.SecondFactor == "" {
		return Proof{}, nil
	}
	if code == "" {
		return Proof{}, ErrCodeRequired
	}
	if recovery, ok := canonicalRecoveryCode(code); ok {
		return Proof{Recovery: s.hasher.recoveryDigests(user.ID, recovery)}, nil
	}
	// Counted before it is checked, so that parallel guesses cannot pass the limit.
	if err := s.limits.TakeCode(ctx, address, user.ID); err != nil {
		return Proof{}, err
	}
	factor, step, err := s.matchCode(ctx, user.ID, code)
	if errors.Is(err, ErrNoSecondFactor) || err == nil && factor.ID != user.SecondFactor {
		return Proof{}, ErrInvalidCode // the factor was removed or replaced since the user was read
	}
	if err != nil {
		return Proof{}, err
	}
	return Proof{Step: step}, nil
}

// codeAccepted resets the counts of the user's codes. The change is committed already, so an error
// must not fail the request: the client would not get its recovery codes.
func (s *Service) codeAccepted(ctx context.Context, user, address string, proof Proof) {
	if proof.factor() == FactorNone {
		return
	}
	if err := s.limits.CodeAccepted(ctx, address, user); err != nil {
		s.log.Warn("the counts of codes of a user were not reset", "user", user, "error", err.Error())
	}
}

// matchCode returns the user's factor and the time step of the code. Errors: ErrNoSecondFactor,
// ErrInvalidCode.
func (s *Service) matchCode(ctx context.Context, owner, code string) (SecondFactor, int64, error) {
	factor, seed, err := s.seed(ctx, owner)
	if errors.Is(err, envelope.ErrRefused) {
		// A rotation may have rewrapped the key since it was read.
		factor, seed, err = s.seed(ctx, owner)
	}
	if err != nil {
		return factor, 0, err
	}
	defer clear(seed)
	secret := base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(seed)
	now := s.now().Unix() / totpStep
	for step := now - totpSkew; step <= now+totpSkew; step++ {
		matches, err := hotp.ValidateCustom(code, uint64(step), secret, hotp.ValidateOpts{Digits: totpDigits, Algorithm: otp.AlgorithmSHA1}) //nolint:gosec // after 1970
		if err != nil && !errors.Is(err, otp.ErrValidateInputInvalidLength) {
			return factor, 0, errors.New("second factor: the seed is damaged")
		}
		if matches && step > factor.LastStep {
			return factor, step, nil
		}
	}
	return factor, 0, ErrInvalidCode
}

func (s *Service) seed(ctx context.Context, owner string) (SecondFactor, []byte, error) {
	factor, stored, err := s.store.SecondFactor(ctx, owner)
	if err != nil {
		return factor, nil, err
	}
	key, err := s.keys.Key(ctx, stored)
	if err != nil {
		return factor, nil, err
	}
	seed, err := key.Open(seedPlace(factor.ID), factor.Seed)
	if err != nil {
		return factor, nil, fmt.Errorf("second factor %s: %w", factor.ID, err)
	}
	return factor, seed, nil
}

// seedPlace returns the associated data of a seed: its table and column, as a rotation derives
// them.
func seedPlace(row string) envelope.Place {
	return envelope.Place{Kind: "second_factors", Row: row, Field: "seed", Revision: 1}
}

// canonicalRecoveryCode returns the canonical form of a code that a person has typed, and reports
// whether it can be a recovery code.
func canonicalRecoveryCode(typed string) (string, bool) {
	if len(typed) > 2*recoveryCodeSize {
		return "", false
	}
	code := strings.ToUpper(strings.NewReplacer("-", "", " ", "").Replace(typed))
	if len(code) != recoveryCodeSize || strings.Trim(code, "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567") != "" {
		return "", false
	}
	return code, true
}

// grouped returns a recovery code in groups of four, which are easier to copy.
func grouped(code string) string {
	var groups []string
	for ; len(code) > 4; code = code[4:] {
		groups = append(groups, code[:4])
	}
	return strings.Join(append(groups, code), "-")
}
