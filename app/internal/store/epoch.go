package store

import (
	"context"
	"fmt"
)

// Expect implements Deployment.
func (c *core) Expect(m Meta) { c.expected = &m }

// asExpected returns a condition that the database is the one of Expect, with the parameters that
// it has from $first on. With lock, the result holds until the transaction ends; a condition on a
// row of a backup in the same statement needs no lock, because a restore changes meta first.
func (c *core) asExpected(first int, lock string) (condition string, args []any) {
	if c.expected == nil {
		return "TRUE", nil
	}
	condition = fmt.Sprintf("EXISTS (SELECT 1 FROM meta WHERE id = 1 AND deployment_id = $%d AND epoch IS NOT DISTINCT FROM $%d%s)", first, first+1, lock)
	return condition, []any{c.expected.DeploymentID, nullable(c.expected.Epoch)}
}

// checkExpected returns ErrRestored if the database is not the one of Expect.
func (c *core) checkExpected(ctx context.Context, q queryer) error {
	condition, args := c.asExpected(1, "")
	var expected bool
	if err := c.rowIn(ctx, q, "SELECT "+condition, args, &expected); err != nil || expected {
		return err
	}
	return ErrRestored
}
