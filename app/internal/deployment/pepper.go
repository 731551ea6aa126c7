package deployment

import (
	"context"
	"errors"
	"fmt"
	"maps"

	"github.com/securenotes/securenotes/app/config"
)

// ErrWrongPepper means that the database's passwords are keyed with another pepper.
var ErrWrongPepper = errors.New("the pepper is not the one of this database")

// PepperStore records which pepper a database is used with. See [store.Deployment].
type PepperStore interface {
	ClaimPepper(ctx context.Context, digest string) (recorded string, err error)
	PeppersInUse(context.Context) (map[string]int64, error)
}

// CheckPepper checks that the database has been used with this pepper. The first process records
// it. Otherwise anyone who can replace the pepper would know the key of new passwords. Errors:
// ErrWrongPepper, store.ErrNoMeta.
func CheckPepper(ctx context.Context, db PepperStore, pepper *config.Pepper) error {
	digest, err := pepper.Digest()
	if err != nil {
		return err
	}
	recorded, err := db.ClaimPepper(ctx, digest)
	if err != nil {
		return err
	}
	return CheckPepperDigest(recorded, pepper)
}

// LostPeppers returns, by the id of each missing pepper, how many users' passwords need it. These
// users cannot log in.
func LostPeppers(ctx context.Context, db PepperStore, pepper *config.Pepper) (map[string]int64, error) {
	users, err := db.PeppersInUse(ctx)
	maps.DeleteFunc(users, func(id string, _ int64) bool { return pepper.Peppers[id] != "" })
	return users, err
}

// CheckPepperDigest checks a pepper against the digest that a database records, if it records one.
// Error: ErrWrongPepper.
func CheckPepperDigest(recorded string, pepper *config.Pepper) error {
	digest, err := pepper.Digest()
	if err != nil || recorded == "" || recorded == digest {
		return err
	}
	return fmt.Errorf("%w (SHA-256 %s, recorded %s): the pepper has been replaced in Vault, or the database belongs to another deployment: restore the pepper from a backup of Vault, or correct the database URI",
		ErrWrongPepper, digest, recorded)
}
