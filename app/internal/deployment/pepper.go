package deployment

import (
	"context"
	"errors"
	"fmt"
	"maps"

	"github.com/securenotes/securenotes/app/config"
)

// ErrWrongPepper means that the pepper is not the one that the database's passwords are keyed with.
var ErrWrongPepper = errors.New("the pepper is not the one of this database")

// PepperStore records which pepper a database is used with. See [store.Deployment].
type PepperStore interface {
	ClaimPepper(ctx context.Context, digest string) (recorded string, err error)
	PeppersInUse(context.Context) (map[string]int64, error)
}

// CheckPepper shows that the pepper is the one that the database has been used with; the first
// process to ask makes it so. Anyone who can put another pepper in its place would know what new
// passwords are keyed with. Errors: ErrWrongPepper, store.ErrNoMeta.
func CheckPepper(ctx context.Context, db PepperStore, pepper *config.Pepper) error {
	digest, err := pepper.Digest()
	if err != nil {
		return err
	}
	recorded, err := db.ClaimPepper(ctx, digest)
	if err != nil {
		return err
	}
	if recorded != digest {
		return fmt.Errorf("%w (SHA-256 %s, the database says %s): somebody has replaced it in Vault, or this is the database of another one; restore the pepper from a backup of Vault",
			ErrWrongPepper, digest, recorded)
	}
	return nil
}

// LostPeppers returns how many users' passwords need each pepper that is not there, by its id: they
// cannot log in.
func LostPeppers(ctx context.Context, db PepperStore, pepper *config.Pepper) (map[string]int64, error) {
	users, err := db.PeppersInUse(ctx)
	maps.DeleteFunc(users, func(id string, _ int64) bool { return pepper.Peppers[id] != "" })
	return users, err
}
