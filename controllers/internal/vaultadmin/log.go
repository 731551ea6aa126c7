package vaultadmin

import (
	"context"

	"github.com/go-logr/logr"
	"sigs.k8s.io/controller-runtime/pkg/log"
)

// logger returns the logger of ctx with the place of a write. Paths hold names, and no secrets.
func (c *Client) logger(ctx context.Context, path string) logr.Logger {
	return log.FromContext(ctx).WithValues("vault", c.session.connection.Name, "path", path)
}

// versions returns the key versions of a write for the log. Other fields may be secret, and are not
// logged.
func versions(data map[string]any) (values []any) {
	for _, field := range []string{"min_encryption_version", "min_decryption_version", "min_available_version"} {
		if version, ok := data[field]; ok {
			values = append(values, field, version)
		}
	}
	return values
}
