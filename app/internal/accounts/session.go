package accounts

import (
	"context"
	"errors"

	"github.com/securenotes/securenotes/app/internal/sessions"
)

// MaxSessions is how many live sessions a user may have; a login that would begin one more ends the oldest.
const MaxSessions = 100

// Logout ends the session. Errors: sessions.ErrInvalid, also when it had ended before.
func (s *Service) Logout(ctx context.Context, id sessions.Identity) error {
	done, err := s.store.RevokeSession(ctx, id, s.now(), id.Session)
	if err == nil && !done {
		err = sessions.ErrInvalid
	}
	return err
}

// Sessions lists the user's live sessions, newest first. Errors: sessions.ErrInvalid.
func (s *Service) Sessions(ctx context.Context, id sessions.Identity) ([]sessions.Session, error) {
	return s.store.Sessions(ctx, id, s.now())
}

// Revoke ends one of the user's sessions. Errors: sessions.ErrInvalid, sessions.ErrNotFound.
func (s *Service) Revoke(ctx context.Context, id sessions.Identity, session string) error {
	now := s.now()
	done, err := s.store.RevokeSession(ctx, id, now, session)
	if err != nil || done {
		return err
	}
	if _, err := s.store.UserBySession(ctx, id, now); err != nil {
		return err
	}
	return sessions.ErrNotFound
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
	if user.PasswordHash, user.PepperID, err = s.hasher.Hash(ctx, user.ID, replacement); err != nil {
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
	err = s.hasher.Verify(ctx, &user, password, func() error { return s.limits.Check(ctx, address, user.Username) })
	if errors.Is(err, ErrInvalidCredentials) {
		if errCount := s.limits.Failed(context.WithoutCancel(ctx), address, user.Username); errCount != nil {
			return User{}, errCount
		}
	}
	return user, err
}
