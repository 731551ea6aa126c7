package accounts

import (
	"context"

	"github.com/securenotes/securenotes/app/internal/sessions"
)

// MaxSessions is how many live sessions a user may have. A login that begins one more ends the
// oldest.
const MaxSessions = 100

// Logout ends the session. Errors: sessions.ErrInvalid, also if the session has ended already.
func (s *Service) Logout(ctx context.Context, id sessions.Identity) error {
	ended, err := s.store.EndSession(ctx, id, s.now())
	if err == nil && !ended {
		err = sessions.ErrInvalid
	}
	return err
}

// Sessions lists the user's live sessions, newest first. Errors: sessions.ErrInvalid.
func (s *Service) Sessions(ctx context.Context, id sessions.Identity) ([]sessions.Session, error) {
	return s.store.Sessions(ctx, id, s.now())
}

// Revoke ends another session of the user. It needs the password and the second factor, because a
// stolen token must not be able to end the user's sessions. Errors:
// sessions.ErrInvalid, sessions.ErrNotFound; ErrInvalidCredentials when the password is wrong;
// ErrCodeRequired, ErrInvalidCode; ErrBusy.
func (s *Service) Revoke(ctx context.Context, id sessions.Identity, address string, shown Reauthentication, session string) error {
	user, err := s.verifyUser(ctx, id, address, shown.Password)
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

// Reauthentication is what a signed-in user shows again for calls that a stolen token must not
// allow.
type Reauthentication struct {
	Password string
	// Code is a code of the second factor or a recovery code. It may be empty.
	Code string
}

// ChangePassword replaces the password and ends all other sessions of the user. Errors:
// sessions.ErrInvalid; ErrInvalidCredentials when the current password is wrong; ErrCodeRequired,
// ErrInvalidCode; *InvalidError; ErrBusy.
func (s *Service) ChangePassword(ctx context.Context, id sessions.Identity, address string, shown Reauthentication, replacement string) error {
	user, err := s.verifyUser(ctx, id, address, shown.Password)
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

// DeleteAccount deletes the user and all data of the user. It decrypts only the seed of the second
// factor. Errors: sessions.ErrInvalid; ErrInvalidCredentials when the password is wrong;
// ErrCodeRequired, ErrInvalidCode; ErrBusy.
func (s *Service) DeleteAccount(ctx context.Context, id sessions.Identity, address string, shown Reauthentication) error {
	user, err := s.verifyUser(ctx, id, address, shown.Password)
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
	// The account is deleted already. Counts that cannot be removed expire.
	if err := s.limits.Forget(context.WithoutCancel(ctx), user.ID); err != nil {
		s.log.Warn("the counts of codes of a deleted user were not removed; they expire", "user", user.ID, "error", err.Error())
	}
	return nil
}

// User returns the user of the session. Errors: sessions.ErrInvalid.
func (s *Service) User(ctx context.Context, id sessions.Identity) (User, error) {
	return s.store.UserBySession(ctx, id, s.now())
}

// verifyUser returns the session's user if the password is right. A stolen token alone must not be
// enough to lock the user out. A wrong password counts as a failed login.
func (s *Service) verifyUser(ctx context.Context, id sessions.Identity, address, password string) (User, error) {
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
