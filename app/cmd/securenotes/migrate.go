package main

import (
	"context"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/securenotes/securenotes/app/config"
	"github.com/securenotes/securenotes/app/internal/deployment"
	"github.com/securenotes/securenotes/app/internal/envelope"
	"github.com/securenotes/securenotes/app/internal/store"
)

// migratePatience bounds the wait for an unreachable database or Vault. Then the container ends
// with the reason, and Kubernetes restarts it.
const migratePatience = 20 * time.Second

func migrateCommand() *cobra.Command {
	var file string
	command := &cobra.Command{
		Use:   config.CommandMigrate,
		Short: "Bring the database schema up to date and bind the database to its deployment",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := loadConfig(file)
			if err != nil {
				return err
			}
			log := newLog(c.Log, os.Stderr)
			trust, err := newTrust(cmd.Context(), c)
			if err != nil {
				return err
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), migratePatience)
			defer cancel()
			return retry(ctx, func(err error) { log.Warn("not migrated yet", "error", err.Error()) }, func(ctx context.Context) error {
				applied, err := migrate(context.WithoutCancel(ctx), c, trust)
				if err == nil {
					log.Info("the database is up to date", "applied_migrations", applied)
				}
				return err
			})
		},
	}
	requireConfig(command, &file)
	return command
}

// migrate brings the schema up to date and binds the database to the deployment. Error:
// deployment.ErrLost, before anything is changed.
func migrate(ctx context.Context, c *config.Config, t *trust) (int, error) {
	db, err := openStore(ctx, c, t, store.RoleJob)
	if err != nil {
		return 0, err
	}
	defer db.Close()
	applied, err := db.Migrate(ctx)
	if err != nil {
		return applied, err
	}
	keys := envelope.NewKeyring(c.Deployment.ID, t.provider)
	if c.Claimed {
		err = deployment.Check(ctx, db, keys, c.Deployment)
	} else {
		err = deployment.Claim(ctx, db, keys, c.Deployment)
	}
	if err != nil {
		return applied, err
	}
	// The API checks the pepper, too. This check reports to the operator, by the termination
	// message.
	peppers, err := t.Pepper(ctx)
	if err != nil {
		return applied, err
	}
	return applied, deployment.CheckPepper(ctx, db, peppers)
}

func requireConfig(command *cobra.Command, file *string) {
	command.Flags().StringVar(file, config.FlagConfig, "", "configuration file (required)")
	cobra.CheckErr(command.MarkFlagRequired(config.FlagConfig))
}
