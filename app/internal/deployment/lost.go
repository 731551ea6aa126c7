package deployment

import (
	"context"
	"errors"
	"fmt"

	"github.com/securenotes/securenotes/app/config"
	"github.com/securenotes/securenotes/app/internal/store"
)

// ErrLost means that the deployment has had a database, and that this one has nothing of it.
var ErrLost = errors.New("the database is lost")

// Lost is the ErrLost of a deployment. found says what is there instead.
func Lost(d config.Deployment, found string) error {
	return fmt.Errorf("%w: %s/%s (deployment %s) has used a database, and %s", ErrLost, d.Namespace, d.Name, d.ID, found)
}

// DeploymentIDReader reads the id of the deployment that a database belongs to. See [store.Deployment].
type DeploymentIDReader interface {
	DeploymentID(context.Context) (string, error)
}

// Find shows that the database holds the deployment's data, without the master key and whatever the
// version of the schema. Errors: ErrLost where it holds nobody's, ErrOtherDeployment.
func CheckID(ctx context.Context, db DeploymentIDReader, d config.Deployment) error {
	id, err := db.DeploymentID(ctx)
	switch {
	case errors.Is(err, store.ErrNoMeta):
		return Lost(d, "this one is empty, or its user does not see the tables in it")
	case err != nil:
		return err
	case id != d.ID:
		return fmt.Errorf("%w: it is of deployment %s, this is %s/%s (deployment %s): correct the database URI", ErrOtherDeployment, id, d.Namespace, d.Name, d.ID)
	}
	return nil
}
