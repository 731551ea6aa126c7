package accounts

import (
	"context"

	"github.com/securenotes/securenotes/app/internal/sessions"
)

// MaxSessions is how many live sessions a user may have; a login that would begin one more ends the oldest.
const MaxSessions = 100

// Logout ends the session. Errors: sessions.ErrInvalid, also when it had ended before.
func (s *Service) Logout(ctx context.Context, id sessions.Identity) error {
	done, err := s.store.EndSession(ctx, id, s.now())
	if err == nil && !done {
		err = sessions.ErrInvalid
	}
	return err
}

// Sessions lists the user's live sessions, newest first. Errors: sessions.ErrInvalid.
func (s *Service) Sessions(ctx context.Context, id sessions.Identity) ([]sessions.Session, error) {
	return s.store.Sessions(ctx, id, s.now())
}

// Revoke ends another one of the user's sessions. It asks for the password and the second factor,
// because a stolen token must not be able to end the sessions of its user. Errors:
// sessions.ErrInvalid, sessions.ErrNotFound; ErrInvalidCredentials when the password is wrong;
// ErrCodeRequired, ErrInvalidCode; ErrBusy.
func (s *Service) Revoke(ctx context.Context, id sessions.Identity, address string, shown Reauthentication, session string) error {
	user, err := s.verified(ctx, id, address, shown.Password)
	if err != nil {
		return err
	}
	proof, err := s.prove(ctx, user, address, shown.Code)
	if err != nil {
		return err
	}
	if err := s.store.RevokeOther(ctx, id, s.now(), user, proof, session); err != nil {
		return err
	}
	s.codeAccepted(ctx, user.ID, address, proof)
	return nil
}

// Reauthentication is what a user who is signed in shows again for what a stolen token must not be enough for.
type Reauthentication struct {
	Password string
	// Code is of the second factor, or a recovery code; empty: none.
	Code string
}

// ChangePassword replaces the password and ends every other session of the user. Errors:
// sessions.ErrInvalid; ErrInvalidCredentials when the password shown is wrong; ErrCodeRequired,
// ErrInvalidCode; *InvalidError; ErrBusy.
func (s *Service) ChangePassword(ctx context.Context, id sessions.Identity, address string, shown Reauthentication, replacement string) error {
	user, err := s.verified(ctx, id, address, shown.Password)
	if err != nil {
		return err
	}
	if replacement, err = s.newPassword(user.Username, replacement); err != nil {
		return err
	}
	proof, err := s.prove(ctx, user, address, shown.Code)
	if err != nil {
		return err
	}
	oldHash := user.PasswordHash
	r := request{purpose: forReauthentication, parties: []string{user.ID}}
	if user.PasswordHash, user.PepperID, err = s.hasher.hash(ctx, r, user.ID, replacement); err != nil {
		return err
	}
	if err := s.store.ReplacePassword(ctx, id, s.now(), oldHash, user, proof); err != nil {
		return err
	}
	s.codeAccepted(ctx, user.ID, address, proof)
	return nil
}

// DeleteAccount removes the user and everything of the user's, without decrypting any of it but the seed of
// the second factor. Errors: sessions.ErrInvalid; ErrInvalidCredentials when the password is wrong;
// ErrCodeRequired, ErrInvalidCode; ErrBusy.
func (s *Service) DeleteAccount(ctx context.Context, id sessions.Identity, address string, shown Reauthentication) error {
	user, err := s.verified(ctx, id, address, shown.Password)
	if err != nil {
		return err
	}
	proof, err := s.prove(ctx, user, address, shown.Code)
	if err != nil {
		return err
	}
	if err := s.store.DeleteUser(ctx, id, s.now(), user, proof); err != nil {
		return err
	}
	// The account is gone by now, whatever happens to the counters; they expire.
	if err := s.limits.Forget(context.WithoutCancel(ctx), user.ID); err != nil {
		s.log.Warn("the codes of a deleted user stay counted", "user", user.ID, "error", err.Error())
	}
	return nil
}

// User is whose session it is. Errors: sessions.ErrInvalid.
func (s *Service) User(ctx context.Context, id sessions.Identity) (User, error) {
	return s.store.UserBySession(ctx, id, s.now())
}

// verified is the session's user, if the password is the user's: a stolen token alone must not be
// able to lock the user out. A wrong one counts as a failed login.
func (s *Service) verified(ctx context.Context, id sessions.Identity, address, password string) (User, error) {
	user, err := s.store.UserBySession(ctx, id, s.now())
	if err != nil {
		return User{}, err
	}
	if canonical, err := canonicalPassword(password); err == nil {
		password = canonical
	}
	r := s.attempt(ctx, forReauthentication, []string{user.ID}, address, s.UsernameDigest(user.Username))
	return user, s.hasher.verify(ctx, r, &user, password)
}
