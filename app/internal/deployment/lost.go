package deployment

import (
	"context"
	"errors"
	"fmt"

	"github.com/securenotes/securenotes/app/config"
	"github.com/securenotes/securenotes/app/internal/store"
)

// ErrLost means that the deployment has used a database before, and that this one contains none of
// its data.
var ErrLost = errors.New("the database is lost")

// Lost returns the ErrLost of a deployment. found is what is there instead of its data.
func Lost(d config.Deployment, found string) error {
	return fmt.Errorf("%w: %s/%s (deployment %s) has used a database, and %s", ErrLost, d.Namespace, d.Name, d.ID, found)
}

// IDReader reads the id of the deployment that a database belongs to. See
// [store.Deployment].
type IDReader interface {
	DeploymentID(context.Context) (string, error)
}

// CheckID checks that the database contains the deployment's data, without the master key and
// whatever the version of the schema. Errors: ErrLost if it belongs to no deployment, ErrRestoring,
// ErrOtherDeployment.
func CheckID(ctx context.Context, db IDReader, d config.Deployment) error {
	id, err := db.DeploymentID(ctx)
	switch {
	case errors.Is(err, store.ErrNoMeta):
		return Lost(d, "this one is empty, or its user cannot see the tables in it")
	case err != nil:
		return err
	}
	if err := checkRestored(id); err != nil {
		return err
	}
	if id != d.ID {
		return fmt.Errorf("%w: it belongs to deployment %s, but this is %s/%s (deployment %s): correct the database URI", ErrOtherDeployment, id, d.Namespace, d.Name, d.ID)
	}
	return nil
}

// CheckUnchanged checks that the database is still the one that the process opened, whose Meta was
// opened: a backup has not been restored into it since. Errors: those of CheckID,
// store.ErrRestored.
func CheckUnchanged(ctx context.Context, db interface {
	IDReader
	MetaReader
}, d config.Deployment, opened store.Meta) error {
	if err := CheckID(ctx, db, d); err != nil {
		return err
	}
	meta, err := db.Meta(ctx)
	if err == nil && meta.Epoch != opened.Epoch {
		err = fmt.Errorf("%w (%s/%s): this process ends, and the next one uses the restored database", store.ErrRestored, d.Namespace, d.Name)
	}
	return err
}
