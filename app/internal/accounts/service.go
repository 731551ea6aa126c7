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

// maxFenced bounds how often a registration makes a new key because a rotation overtook it.
const maxFenced = 5

// Store is what accounts need of the database.
type Store interface {
	CreateUser(context.Context, User, envelope.StoredKey) error
	// CountUsers returns how many accounts there are.
	CountUsers(context.Context) (int64, error)
	UserByName(context.Context, string) (User, error)
	UserBySession(ctx context.Context, id sessions.Identity, now time.Time) (User, error)
	// ReplacePassword stores the user's new hash if the old one and the second factor are still those given, and
	// ends the user's other sessions. Like DeleteUser it uses the proof up, which is there when the user has a
	// second factor. Errors: sessions.ErrInvalid, ErrInvalidCode.
	ReplacePassword(ctx context.Context, id sessions.Identity, now time.Time, oldHash string, user User, proof Proof) error
	// DeleteUser deletes the user, if password hash and second factor are still those given. Errors:
	// sessions.ErrInvalid, ErrInvalidCode.
	DeleteUser(ctx context.Context, id sessions.Identity, now time.Time, user User, proof Proof) error
	RehashPassword(ctx context.Context, oldHash string, user User) error
	// CreateSession begins a session if the user's password hash and second factor are still those given, and
	// uses the proof up, which is there when the user has a second factor. It ends the user's oldest sessions
	// where there would be more than MaxSessions.
	CreateSession(ctx context.Context, session sessions.Session, user User, proof Proof) error
	Sessions(ctx context.Context, id sessions.Identity, now time.Time) ([]sessions.Session, error)
	// EndSession ends a session if it lives, and reports whether it did.
	EndSession(ctx context.Context, id sessions.Identity, now time.Time) (bool, error)
	// RevokeOther ends another session of the user, if that of id lives, and uses the proof up.
	// Errors: sessions.ErrInvalid, sessions.ErrNotFound, ErrInvalidCode.
	RevokeOther(ctx context.Context, id sessions.Identity, now time.Time, user User, proof Proof, session string) error
	SecondFactorStore
}

// LoginLimits bounds failed logins, codes of the second factor and registrations. Each error that
// is not the counter's own says that the client must wait.
type LoginLimits interface {
	// CheckLogin returns an error when a login must wait. username is a digest of the name.
	CheckLogin(ctx context.Context, address, username string) error
	// TakeLogin counts a login as failed before its password is looked at; giveBack takes that back.
	TakeLogin(ctx context.Context, address, username string) (giveBack func(context.Context) error, err error)
	// TakeRegistration counts a registration before its password is hashed; giveBack takes that back.
	TakeRegistration(ctx context.Context, address string) (giveBack func(context.Context) error, err error)
	// TakeCode counts a code of the second factor before it is looked at.
	TakeCode(ctx context.Context, address, user string) error
	// TakeProposalCode counts a code that is to confirm a proposed second factor, by the proposal's
	// id.
	TakeProposalCode(ctx context.Context, proposal string) error
	// CodeAccepted forgets the user's codes that were counted.
	CodeAccepted(ctx context.Context, address, user string) error
	// Forget removes what was counted of a user who is no more.
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
	bound       *bound
	log         *slog.Logger
	now         func() time.Time
}

// Options are a Service's settings.
type Options struct {
	// RegistrationOpen lets anyone create an account.
	RegistrationOpen bool
	// MinPassword is in characters.
	MinPassword int
	// TokenTTL is how long a session lasts.
	TokenTTL time.Duration
	// MaxAccounts is how many accounts there may be.
	MaxAccounts int64
	Log         *slog.Logger
	// Now is the clock.
	Now func() time.Time
}

// NewService returns a service. usernames is the key for digests of usernames.
func NewService(store Store, keys *envelope.Cache, hasher *Hasher, usernames *pepper.Key, limits LoginLimits, o Options) *Service {
	return &Service{
		store: store, keys: keys, hasher: hasher, usernames: usernames, limits: limits, open: o.RegistrationOpen,
		minPassword: o.MinPassword, tokenTTL: o.TokenTTL, bound: &bound{store: store, most: o.MaxAccounts}, log: o.Log, now: o.Now,
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
	// Asked before the costly hash; the unique index has the last word.
	if _, err := s.store.UserByName(ctx, username); !errors.Is(err, ErrNotFound) {
		if err == nil {
			err = ErrUsernameTaken
		}
		return err
	}
	if err := s.bound.take(ctx); err != nil {
		return err
	}
	defer func() { s.bound.settle(err == nil) }()
	var ticket ticket
	r := request{
		purpose: forRegistration, parties: []string{clientaddress.Network(address)},
		admit: func() (err error) {
			ticket.giveBack, err = s.limits.TakeRegistration(ctx, address)
			return err
		},
	}
	user := User{ID: uuid.NewString(), Username: username, CreatedAt: s.now()}
	if user.PasswordHash, user.PepperID, err = s.hasher.hash(ctx, r, user.ID, password); err == nil {
		err = s.create(ctx, user)
	}
	if err != nil {
		return errors.Join(err, ticket.back(ctx))
	}
	return nil
}

// create stores a user with a first owner key.
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

// ticket is a count that was taken before the work, if it was taken.
type ticket struct {
	giveBack func(context.Context) error
}

// back takes the count back, also when the client has hung up.
func (t ticket) back(ctx context.Context) error {
	if t.giveBack == nil {
		return nil
	}
	return t.giveBack(context.WithoutCancel(ctx))
}

// Credentials are what a client shows to log in.
type Credentials struct {
	Username, Password string
	// Code is of the second factor, or a recovery code; empty: none.
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
// ErrInvalidCode, when the password is right; ErrBusy; those of LoginLimits.
func (s *Service) Login(ctx context.Context, address string, c Credentials) (Login, error) {
	// A name or password that no account can have takes the same way as an unknown one.
	name, errName := canonicalUsername(c.Username)
	digest := s.UsernameDigest(c.Username)
	// Before the wait for a place, so that a client that is limited costs next to nothing.
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

// attempt is a request to verify a password from the address for a username. It is counted as
// failed before the password is looked at, and the count is taken back while the request still has
// its place, unless the password is wrong: so no more counts are out at once than places.
func (s *Service) attempt(ctx context.Context, p purpose, parties []string, address, username string) request {
	var ticket ticket
	return request{
		purpose: p, parties: parties,
		admit: func() (err error) {
			ticket.giveBack, err = s.limits.TakeLogin(ctx, address, username)
			return err
		},
		verified: func(err error) {
			if errors.Is(err, ErrInvalidCredentials) || errors.Is(err, ErrPepperLost) {
				return
			}
			if err := ticket.back(ctx); err != nil {
				s.log.Warn("a login stays counted as failed", "error", err.Error())
			}
		},
	}
}

// countCode counts a login whose password was right and whose code was wrong as failed, and returns
// the login's error. How many codes are looked at, other limits bound before.
func (s *Service) countCode(ctx context.Context, address, username string, err error) error {
	if !errors.Is(err, ErrInvalidCode) {
		return err
	}
	// Even when the client is gone: a client that hangs up is counted, too.
	if _, errCount := s.limits.TakeLogin(context.WithoutCancel(ctx), address, username); errCount != nil {
		s.log.Debug("a login with a wrong code was not counted as failed", "error", errCount.Error())
	}
	return err
}

// UsernameDigest returns what stands for a username that somebody tried: people now and then type a
// password into that field, which must not be stored. Every spelling of a name has one digest.
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
	// Whole seconds, as the token has them.
	now := s.now().Truncate(time.Second)
	session := sessions.Session{
		Identity:  sessions.Identity{Owner: user.ID, Session: id.String()},
		CreatedAt: now, ExpiresAt: now.Add(s.tokenTTL),
	}
	// With what was verified: a password that was changed meanwhile begins no session, and a second factor
	// that was confirmed meanwhile is asked for.
	if err := s.store.CreateSession(ctx, session, user, proof); err != nil {
		return Login{}, err
	}
	s.codeAccepted(ctx, user.ID, address, proof)
	return Login{Session: session, Factor: proof.factor()}, nil
}

// rehash replaces the hash while the password is at hand. When that does not succeed, the next
// login tries again.
func (s *Service) rehash(ctx context.Context, user User, address, password string) {
	oldHash := user.PasswordHash
	r := request{purpose: forLogin, parties: []string{clientaddress.Network(address), s.UsernameDigest(user.Username)}}
	var err error
	if user.PasswordHash, user.PepperID, err = s.hasher.hash(ctx, r, user.ID, password); err == nil {
		err = s.store.RehashPassword(ctx, oldHash, user)
	}
	if err != nil {
		s.log.Warn("a password hash of an older cost or pepper was not replaced", "user", user.ID, "error", err.Error())
	}
}

// canonicalUsername applies RFC 8265, UsernameCaseMapped: names that look alike to a person in case
// or width are one name, and control characters are refused.
func canonicalUsername(username string) (string, error) {
	// Of what was sent, spaces around it included, as the API's description says.
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
// gives the same bytes. Nothing is trimmed, nothing is cut.
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

// newPassword is the canonical form of a password that may be the user's. Errors: *InvalidError.
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
