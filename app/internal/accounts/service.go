package accounts

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"
	"golang.org/x/text/secure/precis"

	"github.com/securenotes/securenotes/app/internal/clientaddress"
	"github.com/securenotes/securenotes/app/internal/envelope"
	"github.com/securenotes/securenotes/app/internal/pepper"
	"github.com/securenotes/securenotes/app/internal/sessions"
)

// Limits of usernames and passwords, in characters.
const (
	minUsername, maxUsername = 3, 64
	maxPassword              = 256
)

// maxFenced bounds how often a registration generates a new key after a rotation has raised the
// fence.
const maxFenced = 5

// Store is what accounts need of the database.
type Store interface {
	CreateUser(context.Context, User, envelope.StoredKey) error
	// CountUsers returns how many accounts there are.
	CountUsers(context.Context) (int64, error)
	UserByName(context.Context, string) (User, error)
	UserBySession(ctx context.Context, id sessions.Identity, now time.Time) (User, error)
	// ReplacePassword stores the user's new hash if the old hash and the second factor are still
	// the given ones, and ends the user's other sessions. Like DeleteUser it uses up the proof,
	// which is present if the user has a second factor. Errors: sessions.ErrInvalid,
	// ErrInvalidCode.
	ReplacePassword(ctx context.Context, id sessions.Identity, now time.Time, oldHash string, user User, proof Proof) error
	// DeleteUser deletes the user if the password hash and the second factor are still the given
	// ones. Errors: sessions.ErrInvalid, ErrInvalidCode.
	DeleteUser(ctx context.Context, id sessions.Identity, now time.Time, user User, proof Proof) error
	RehashPassword(ctx context.Context, oldHash string, user User) error
	// CreateSession begins a session if the user's password hash and second factor are still the
	// given ones, and uses up the proof. It ends the user's oldest sessions if there would be more
	// than MaxSessions.
	CreateSession(ctx context.Context, session sessions.Session, user User, proof Proof) error
	Sessions(ctx context.Context, id sessions.Identity, now time.Time) ([]sessions.Session, error)
	// EndSession ends a session and reports whether it was live.
	EndSession(ctx context.Context, id sessions.Identity, now time.Time) (bool, error)
	// RevokeOther ends another session of the user, if that of id is live, and uses up the proof.
	// Errors: sessions.ErrInvalid, sessions.ErrNotFound, ErrInvalidCode.
	RevokeOther(ctx context.Context, id sessions.Identity, now time.Time, user User, proof Proof, session string) error
	SecondFactorStore
}

// LoginLimits limits failed logins, codes of the second factor and registrations. An error means
// that the client must wait, or that the counter is unavailable.
type LoginLimits interface {
	// CheckLogin returns an error if a login must wait. username is a digest of the name.
	CheckLogin(ctx context.Context, address, username string) error
	// TakeLogin counts a login as failed before its password is checked; undo reverses the count.
	TakeLogin(ctx context.Context, address, username string) (undo func(context.Context) error, err error)
	// TakeRegistration counts a registration before its password is hashed; undo reverses the
	// count.
	TakeRegistration(ctx context.Context, address string) (undo func(context.Context) error, err error)
	// TakeCode counts a code of the second factor before it is checked.
	TakeCode(ctx context.Context, address, user string) error
	// TakeProposalCode counts a code for a proposed second factor, by the proposal's id.
	TakeProposalCode(ctx context.Context, proposal string) error
	// CodeAccepted resets the counts of the user's codes.
	CodeAccepted(ctx context.Context, address, user string) error
	// Forget removes the counts of a deleted user.
	Forget(ctx context.Context, user string) error
}

// Service registers users and begins and ends sessions.
type Service struct {
	store       Store
	keys        *envelope.Cache
	hasher      *Hasher
	usernames   *pepper.Key
	limits      LoginLimits
	open        bool
	minPassword int
	tokenTTL    time.Duration
	limit       *accountLimit
	log         *slog.Logger
	now         func() time.Time
}

// Options are a Service's settings.
type Options struct {
	// RegistrationOpen lets anyone create an account.
	RegistrationOpen bool
	// MinPassword is in characters.
	MinPassword int
	// TokenTTL is the lifetime of a session.
	TokenTTL time.Duration
	// MaxAccounts is the maximum number of accounts.
	MaxAccounts int64
	Log         *slog.Logger
	// Now is the clock.
	Now func() time.Time
}

// NewService returns a service. usernames is the key for digests of usernames.
func NewService(store Store, keys *envelope.Cache, hasher *Hasher, usernames *pepper.Key, limits LoginLimits, o Options) *Service {
	return &Service{
		store: store, keys: keys, hasher: hasher, usernames: usernames, limits: limits, open: o.RegistrationOpen,
		minPassword: o.MinPassword, tokenTTL: o.TokenTTL, limit: &accountLimit{store: store, limit: o.MaxAccounts}, log: o.Log, now: o.Now,
	}
}

// Register creates an account with its first owner key, for a client at the address. Errors:
// *InvalidError, ErrUsernameTaken, ErrRegistrationClosed, ErrTooManyAccounts, ErrBusy, and those of
// LoginLimits, the key provider and the database.
func (s *Service) Register(ctx context.Context, address, username, password string) (err error) {
	if !s.open {
		return ErrRegistrationClosed
	}
	username, err = canonicalUsername(username)
	if err != nil {
		return err
	}
	if password, err = s.newPassword(username, password); err != nil {
		return err
	}
	// Checked before the costly hash. The unique index decides in the end.
	if _, err := s.store.UserByName(ctx, username); !errors.Is(err, ErrNotFound) {
		if err == nil {
			err = ErrUsernameTaken
		}
		return err
	}
	if err := s.limit.reserve(ctx); err != nil {
		return err
	}
	defer func() { s.limit.release(err == nil) }()
	var counted attemptCount
	r := request{
		purpose: forRegistration, parties: []string{clientaddress.Network(address)},
		admit: func() (err error) {
			counted.undo, err = s.limits.TakeRegistration(ctx, address)
			return err
		},
	}
	user := User{ID: uuid.NewString(), Username: username, CreatedAt: s.now()}
	if user.PasswordHash, user.PepperID, err = s.hasher.hash(ctx, r, user.ID, password); err == nil {
		err = s.create(ctx, user)
	}
	if err != nil {
		return errors.Join(err, counted.reverse(ctx))
	}
	return nil
}

// create stores a user with the first owner key. It generates another key if a rotation has raised
// the fence above the version that wrapped the key.
func (s *Service) create(ctx context.Context, user User) error {
	for range maxFenced {
		key, err := s.keys.Generate(ctx, user.ID)
		if err != nil {
			return err
		}
		if err = s.store.CreateUser(ctx, user, key); !errors.Is(err, ErrFenced) {
			return err
		}
	}
	return fmt.Errorf("register: %w", ErrFenced)
}

// attemptCount is the count of an attempt. undo is nil until the attempt is counted.
type attemptCount struct {
	undo func(context.Context) error
}

// reverse undoes the count, even if the client has disconnected.
func (c attemptCount) reverse(ctx context.Context) error {
	if c.undo == nil {
		return nil
	}
	return c.undo(context.WithoutCancel(ctx))
}

// Credentials are what a client shows to log in.
type Credentials struct {
	Username, Password string
	// Code is a code of the second factor or a recovery code. It may be empty.
	Code string
}

// Login is a session that has begun.
type Login struct {
	sessions.Session
	// Factor is the second factor that was used.
	Factor Factor
}

// Login begins a session for a client at the address. Errors: ErrInvalidCredentials, whatever is
// wrong with them; ErrPepperLost in its place while a pepper is lost; ErrCodeRequired and
// ErrInvalidCode if the password is right; ErrBusy; those of LoginLimits.
func (s *Service) Login(ctx context.Context, address string, c Credentials) (Login, error) {
	// A name or a password that no account can have is treated like an unknown one.
	name, errName := canonicalUsername(c.Username)
	digest := s.UsernameDigest(c.Username)
	// Before the wait for a slot, so that a limited client costs little.
	if err := s.limits.CheckLogin(ctx, address, digest); err != nil {
		return Login{}, err
	}
	secret, errPassword := canonicalPassword(c.Password)
	var user *User
	if errName == nil && errPassword == nil {
		found, err := s.store.UserByName(ctx, name)
		if err != nil && !errors.Is(err, ErrNotFound) {
			return Login{}, err
		}
		if err == nil {
			user = &found
		}
	}
	r := s.attempt(ctx, forLogin, []string{clientaddress.Network(address), digest}, address, digest)
	if err := s.hasher.verify(ctx, r, user, secret); err != nil {
		return Login{}, s.hasher.loginError(err)
	}
	login, err := s.begin(ctx, *user, address, c.Code)
	if err != nil {
		return Login{}, s.countCode(ctx, address, digest, err)
	}
	if s.hasher.Outdated(*user) {
		s.rehash(ctx, *user, address, secret)
	}
	return login, nil
}

// attempt returns a request to verify a password from the address for a username. It counts as
// failed before the password is checked. Unless the password is wrong, the count is undone while
// the request still has its slot, so that no more attempts are counted at the same time than there
// are slots.
func (s *Service) attempt(ctx context.Context, p purpose, parties []string, address, username string) request {
	var counted attemptCount
	return request{
		purpose: p, parties: parties,
		admit: func() (err error) {
			counted.undo, err = s.limits.TakeLogin(ctx, address, username)
			return err
		},
		verified: func(err error) {
			if errors.Is(err, ErrInvalidCredentials) || errors.Is(err, ErrPepperLost) {
				return
			}
			if err := counted.reverse(ctx); err != nil {
				s.log.Warn("a successful login still counts as failed", "error", err.Error())
			}
		},
	}
}

// countCode counts a login with the right password and a wrong code as failed, and returns the
// login's error. Other limits bound how many codes are checked.
func (s *Service) countCode(ctx context.Context, address, username string, err error) error {
	if !errors.Is(err, ErrInvalidCode) {
		return err
	}
	// A client that disconnects is counted, too.
	if _, errCount := s.limits.TakeLogin(context.WithoutCancel(ctx), address, username); errCount != nil {
		s.log.Debug("a login with a wrong code was not counted as failed", "error", errCount.Error())
	}
	return err
}

// UsernameDigest returns a digest to store in place of a username that was tried: people sometimes
// type a password into that field. All spellings of a name have the same digest.
func (s *Service) UsernameDigest(username string) string {
	if name, err := canonicalUsername(username); err == nil {
		username = name
	}
	return s.usernames.Digest(strings.ToLower(strings.TrimSpace(username)))
}

// begin begins a session for a user whose password was right.
func (s *Service) begin(ctx context.Context, user User, address, code string) (Login, error) {
	proof, err := s.prove(ctx, user, address, code)
	if err != nil {
		return Login{}, err
	}
	id, err := uuid.NewV7()
	if err != nil {
		return Login{}, fmt.Errorf("session id: %w", err)
	}
	// The token has whole seconds.
	now := s.now().Truncate(time.Second)
	session := sessions.Session{
		Identity:  sessions.Identity{Owner: user.ID, Session: id.String()},
		CreatedAt: now, ExpiresAt: now.Add(s.tokenTTL),
	}
	// The statement compares with what was verified: it begins no session if the password was
	// changed, or a second factor confirmed, since.
	if err := s.store.CreateSession(ctx, session, user, proof); err != nil {
		return Login{}, err
	}
	s.codeAccepted(ctx, user.ID, address, proof)
	return Login{Session: session, Factor: proof.factor()}, nil
}

// rehash replaces an outdated hash while the password is known. If it fails, the next login tries
// again.
func (s *Service) rehash(ctx context.Context, user User, address, password string) {
	oldHash := user.PasswordHash
	r := request{purpose: forLogin, parties: []string{clientaddress.Network(address), s.UsernameDigest(user.Username)}}
	var err error
	if user.PasswordHash, user.PepperID, err = s.hasher.hash(ctx, r, user.ID, password); err == nil {
		err = s.store.RehashPassword(ctx, oldHash, user)
	}
	if err != nil {
		s.log.Warn("a password hash with an outdated cost or pepper was not replaced", "user", user.ID, "error", err.Error())
	}
}

// canonicalUsername applies RFC 8265, UsernameCaseMapped: names that differ only in case or width
// are the same name, and control characters are refused.
func canonicalUsername(username string) (string, error) {
	// The limit in the API's description includes the spaces around the name.
	if utf8.RuneCountInString(username) > maxUsername {
		return "", &InvalidError{fmt.Sprintf("Username must be at most %d characters", maxUsername)}
	}
	username = strings.TrimSpace(username)
	if utf8.RuneCountInString(username) < minUsername {
		return "", &InvalidError{fmt.Sprintf("Username must be at least %d characters", minUsername)}
	}
	mapped, err := precis.UsernameCaseMapped.String(username)
	if err != nil || utf8.RuneCountInString(mapped) < minUsername {
		return "", &InvalidError{"Username must consist of letters, digits and punctuation without spaces"}
	}
	return mapped, nil
}

// canonicalPassword applies RFC 8265, OpaqueString: the same password typed on different keyboards
// gives the same bytes. Nothing is trimmed or cut.
func canonicalPassword(password string) (string, error) {
	if utf8.RuneCountInString(password) > maxPassword {
		return "", &InvalidError{fmt.Sprintf("Password must be at most %d characters", maxPassword)}
	}
	mapped, err := precis.OpaqueString.String(password)
	if err != nil {
		return "", &InvalidError{"Password must not contain control characters"}
	}
	return mapped, nil
}

// newPassword returns the canonical form of a password that the user may choose. Errors:
// *InvalidError.
func (s *Service) newPassword(username, password string) (string, error) {
	if utf8.RuneCountInString(password) < s.minPassword {
		return "", &InvalidError{fmt.Sprintf("Password must be at least %d characters", s.minPassword)}
	}
	canonical, err := canonicalPassword(password)
	if err != nil {
		return "", err
	}
	if isCommon(canonical) {
		return "", &InvalidError{"Password is one of the most common ones, choose another"}
	}
	return canonical, checkContextWords(canonical, username)
}
