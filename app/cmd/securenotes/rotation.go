package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/securenotes/securenotes/app/config"
	"github.com/securenotes/securenotes/app/internal/progress"
	"github.com/securenotes/securenotes/app/internal/reencrypt"
	"github.com/securenotes/securenotes/app/internal/store"
)

// progressInterval is the time between two progress reports of a shard. Each one is a write to the
// ConfigMap that all shards share.
const progressInterval = 2 * time.Second

// rotationOptions are the flags that reencrypt and verify share.
type rotationOptions struct {
	config, strategy string
	to               int
}

func (o *rotationOptions) add(command *cobra.Command) {
	requireConfig(command, &o.config)
	flags := command.Flags()
	flags.IntVar(&o.to, config.FlagToVersion, 0, "master key version to move everything to (required)")
	flags.StringVar(&o.strategy, config.FlagStrategy, "", "Reencrypt or Rewrap (required)")
	cobra.CheckErr(command.MarkFlagRequired(config.FlagToVersion))
	cobra.CheckErr(command.MarkFlagRequired(config.FlagStrategy))
}

func addUrgent(command *cobra.Command, urgent *bool) {
	command.Flags().BoolVar(urgent, config.FlagUrgent, false, "do not pause while users are active: for a key that may have leaked")
}

func (o *rotationOptions) parse() (*config.Config, reencrypt.Strategy, error) {
	strategy, err := reencrypt.ParseStrategy(o.strategy)
	if err == nil && (o.to < 1 || o.to > 1_000_000_000) {
		err = fmt.Errorf("--to-version %d: must be a version of the master key, 1 or more", o.to)
	}
	if err != nil {
		return nil, "", fmt.Errorf("%w: %w", errConfiguration, err)
	}
	c, err := loadConfig(o.config)
	return c, strategy, err
}

// openForRotation opens database and keys. It retries for a minute: a Job has few attempts, and a
// restart of Vault or of the database is short.
func openForRotation(ctx context.Context, c *config.Config) (*data, error) {
	trust, err := newTrust(ctx, c)
	if err != nil {
		return nil, err
	}
	log := newLog(c.Log, os.Stderr)
	patience, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	var d *data
	err = retry(patience, func(err error) { log.Warn("cannot start yet", "error", err.Error()) }, func(context.Context) error {
		d, err = openData(ctx, c, trust, store.RoleJob)
		return err
	})
	return d, err
}

func reencryptCommand() *cobra.Command {
	var (
		o                rotationOptions
		shard, shards    int
		maxPerSecond     int
		urgent           bool
		configMap, owner string
		endSessions      string
	)
	command := &cobra.Command{
		Use:   config.CommandReencrypt,
		Short: "Move every owner key, and with it every note, to a new master key version",
		Long: `Move every owner key, and with it every note, to a new master key version.

The database records what is left to do. The command can be killed at any time and run again, and
several shards or runs can work at the same time. Users keep writing meanwhile and have priority:
the command pauses between its batches while users are active.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx := cmd.Context()
			c, strategy, err := o.parse()
			if err != nil {
				return err
			}
			owners, err := reencrypt.Shard(shard, shards)
			if err != nil {
				return fmt.Errorf("%w: %w", errConfiguration, err)
			}
			if maxPerSecond < 0 || maxPerSecond > config.MaxNotesPerSecond {
				return fmt.Errorf("%w: --max-notes-per-second %d: must be 1 to %d, or 0 for no limit", errConfiguration, maxPerSecond, config.MaxNotesPerSecond)
			}
			var ending time.Time
			if endSessions != "" {
				if ending, err = time.Parse(time.RFC3339, endSessions); err != nil {
					return fmt.Errorf("%w: --end-sessions %q: must be a time such as 2026-01-02T03:04:05Z", errConfiguration, endSessions)
				}
			}
			log := newLog(c.Log, os.Stderr)
			sinks := progress.All{progressSink(c, "rows")}
			if configMap != "" {
				sink, err := progress.NewConfigMap(configMap, owner, shard, log)
				if err != nil {
					return fmt.Errorf("%w: %w", errConfiguration, err)
				}
				sinks = append(sinks, sink)
			}
			d, err := openForRotation(ctx, c)
			if err != nil {
				return err
			}
			defer d.store.Close()
			tracker := progress.NewTracker(sinks, progressInterval)
			job := &reencrypt.Job{
				Store: d.store, Keys: d.keys, Strategy: strategy, To: o.to, Range: owners,
				EndSessions: ending, Progress: tracker.Report, Conflicts: tracker.Conflicts, Log: log,
				// Not rounded, so that the shares of all shards add up to the limit.
				MaxPerSecond: float64(maxPerSecond) / float64(shards), Urgent: urgent,
			}
			if err := tracker.During(ctx, job.Run); err != nil {
				return err
			}
			return writeTermination(config.Termination{
				Reason: config.ReasonComplete, Message: fmt.Sprintf("Shard %d of %d is under version %d.", shard, shards, o.to),
			})
		},
	}
	o.add(command)
	flags := command.Flags()
	flags.IntVar(&shard, config.FlagShard, 0, "index of this shard")
	flags.IntVar(&shards, config.FlagShards, 1, "number of shards")
	flags.IntVar(&maxPerSecond, config.FlagMaxNotesPerSecond, 0,
		"notes (Rewrap: keys) that all shards together may write in a second; each gets an equal share; 0: no limit")
	addUrgent(command, &urgent)
	flags.StringVar(&endSessions, config.FlagEndSessions, "", "end every session that started at this time (RFC 3339) or earlier")
	flags.StringVar(&configMap, config.FlagProgressConfigMap, "", "NAMESPACE/NAME of the ConfigMap to report progress to")
	flags.StringVar(&owner, config.FlagJob, "", "name of this Job, for the progress ConfigMap")
	command.MarkFlagsRequiredTogether(config.FlagProgressConfigMap, config.FlagJob)
	command.MarkFlagsMutuallyExclusive(config.FlagMaxNotesPerSecond, config.FlagUrgent)
	return command
}

func verifyCommand() *cobra.Command {
	var (
		o           rotationOptions
		all, urgent bool
	)
	command := &cobra.Command{
		Use:   config.CommandVerify,
		Short: "Check that nothing is under an older master key version, and that everything can be decrypted",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx := cmd.Context()
			c, strategy, err := o.parse()
			if err != nil {
				return err
			}
			d, err := openForRotation(ctx, c)
			if err != nil {
				return err
			}
			defer d.store.Close()
			var report reencrypt.Report
			tracker := progress.NewTracker(progressSink(c, "owner keys"), progressInterval)
			verification := &reencrypt.Verification{
				Store: d.store, Keys: d.keys, Strategy: strategy, To: o.to, All: all, Urgent: urgent, Progress: tracker.Report,
			}
			err = tracker.During(ctx, func(ctx context.Context) (err error) {
				report, err = verification.Run(ctx)
				return err
			})
			if err != nil {
				return err
			}
			message := fmt.Sprintf("Nothing is below version %d: %d owner keys unwrapped, %d values decrypted.", o.to, report.Keys, report.Values)
			newLog(c.Log, os.Stderr).Info(message)
			return writeTermination(config.Termination{Reason: config.ReasonComplete, Message: message})
		},
	}
	o.add(command)
	addUrgent(command, &urgent)
	command.Flags().BoolVar(&all, "all", false, "decrypt every value, not one for each owner key")
	return command
}

// progressSink returns the visible form of progress: a bar on a terminal, lines in a log.
func progressSink(c *config.Config, what string) progress.Sink {
	if term.IsTerminal(int(os.Stderr.Fd())) {
		return progress.Bar{Terminal: os.Stderr, What: what}
	}
	return progress.Log{Logger: newLog(c.Log, os.Stderr), What: what}
}
