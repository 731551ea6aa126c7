package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"strconv"
	"sync"
	"time"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"
	ctrllog "sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/securenotes/securenotes/app/config"
	"github.com/securenotes/securenotes/app/internal/accounts"
	"github.com/securenotes/securenotes/app/internal/audit"
	"github.com/securenotes/securenotes/app/internal/deployment"
	"github.com/securenotes/securenotes/app/internal/envelope"
	"github.com/securenotes/securenotes/app/internal/httpapi"
	"github.com/securenotes/securenotes/app/internal/notes"
	"github.com/securenotes/securenotes/app/internal/pepper"
	"github.com/securenotes/securenotes/app/internal/ratelimit"
	"github.com/securenotes/securenotes/app/internal/reencrypt"
	"github.com/securenotes/securenotes/app/internal/server"
	"github.com/securenotes/securenotes/app/internal/sessions"
	"github.com/securenotes/securenotes/app/internal/store"
)

const (
	// requestTimeout is shorter than what clients and proxies usually wait.
	requestTimeout = 20 * time.Second
	// sweepInterval and sweepBatch say how often, and how many at a time, expired rows are deleted.
	sweepInterval, sweepBatch = time.Minute, 1000
)

// useSessionKeys gives the command line precedence. A pod restarts with new arguments, while the
// file that it mounts may be outdated for a minute.
func useSessionKeys(c *config.Config, entry, digest string) error {
	if entry == "" || c.Keys.Vault == nil {
		return nil
	}
	c.Keys.Vault.SessionKeys, c.Keys.Vault.SessionKeysDigest = entry, digest
	if err := c.Validate(); err != nil {
		return fmt.Errorf("%w: --session-keys: %w", errConfiguration, err)
	}
	return nil
}

func serveCommand() *cobra.Command {
	var (
		file                string
		sessionKeys, digest string
		dev                 bool
		o                   devOptions
	)
	command := &cobra.Command{
		Use:   config.CommandServe,
		Short: "Serve the notes API over HTTPS",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if dev {
				return serveDev(cmd.Context(), o)
			}
			c, err := loadConfig(file)
			if err != nil {
				return err
			}
			if err := useSessionKeys(c, sessionKeys, digest); err != nil {
				return err
			}
			if c.TLS == nil {
				return fmt.Errorf("%w: tls: is required to serve", errConfiguration)
			}
			if c.Keys.Vault != nil && c.Keys.Vault.AuditKey == "" {
				return fmt.Errorf("%w: keys.vault.auditKey: is required to serve", errConfiguration)
			}
			return serve(cmd.Context(), c, config.DrainTime, newLog(c.Log, newLossyOutput(os.Stderr)))
		},
	}
	flags := command.Flags()
	flags.StringVar(&file, config.FlagConfig, "", "configuration file")
	flags.StringVar(&sessionKeys, config.FlagSessionKeys, "", "entry of the session keys in Vault, instead of keys.vault.sessionKeys")
	flags.StringVar(&digest, config.FlagSessionKeysDigest, "", "with --session-keys: SHA-256 that these must have, instead of keys.vault.sessionKeysDigest")
	flags.BoolVar(&dev, "dev", false, "serve from a local directory, with its own keys: not for secrets")
	flags.StringVar(&o.listen, "listen", "127.0.0.1:"+strconv.Itoa(config.PortHTTPS), "with --dev: address of the API")
	flags.StringVar(&o.data, "data", ".dev", "with --dev: directory for the database, the keys and the certificate")
	command.MarkFlagsOneRequired(config.FlagConfig, "dev")
	command.MarkFlagsMutuallyExclusive(config.FlagConfig, "dev")
	command.MarkFlagsMutuallyExclusive(config.FlagConfig, "listen")
	command.MarkFlagsMutuallyExclusive(config.FlagConfig, "data")
	return command
}

// serve answers probes at once, and the API as soon as database and keys are available. It ends
// with ctx.
func serve(ctx context.Context, c *config.Config, drain time.Duration, log *slog.Logger) error {
	// The certificate watcher is controller-runtime's and logs through its global logger.
	ctrllog.SetLogger(logr.FromSlogHandler(log.Handler()))
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	metrics, err := server.NewMetrics(registry)
	if err != nil {
		return err
	}
	transport := server.Options{
		MemoryLimit: server.MemoryLimit(), TrustedProxies: c.TrustedProxies,
		Headers: httpapi.SetSecurityHeaders, Metrics: metrics, Log: log,
	}
	probes := server.NewProbes("starting")
	probeListener, err := server.ListenProbes(ctx, c.MetricsListen, transport)
	if err != nil {
		return err
	}
	// Probes are answered until the API has ended.
	probeContext, stopProbes := context.WithCancel(context.WithoutCancel(ctx))
	var group errgroup.Group
	group.Go(func() error {
		return server.Serve(probeContext, probeListener, probes.Handler(registry), 0, log)
	})
	group.Go(func() error {
		defer stopProbes()
		return serveAPI(ctx, c, drain, probes, transport, registry)
	})
	return group.Wait()
}

func serveAPI(ctx context.Context, c *config.Config, drain time.Duration, probes *server.Probes, transport server.Options, registry prometheus.Registerer) error {
	log := transport.Log
	// All attempts share it: each login to Vault and each database user that Vault creates lasts
	// for a while.
	renewing, stopRenewing := context.WithCancel(context.WithoutCancel(ctx))
	defer stopRenewing()
	trust, err := newTrust(renewing, c)
	if err != nil {
		return err
	}
	lines, err := audit.Output(os.Stdout)
	if err != nil {
		return err
	}
	var api *running
	starting, giveUp := context.WithCancel(ctx)
	defer giveUp()
	err = retry(starting, func(err error) {
		probes.NotReady(explain(err).Error())
		log.Error("not ready", "error", err.Error())
	}, func(ctx context.Context) (err error) {
		api, err = start(ctx, c, trust, lines, registry, log)
		if errors.Is(err, deployment.ErrLost) {
			giveUp() // the operator reads the termination message
		}
		return err
	})
	if err != nil {
		if ctx.Err() != nil {
			return nil // stopped before it was ready
		}
		return err
	}
	defer api.close(log)
	watched, stopWatching := context.WithCancel(context.WithoutCancel(ctx))
	defer stopWatching()
	listener, err := server.Listen(watched, c.Listen, c.TLS.CertFile, c.TLS.KeyFile, transport)
	if err != nil {
		return err
	}
	// A probe has connections of its own: it waits neither for requests nor for the sweep.
	probed, background := api.store.Background(), api.store.Background()
	defer func() {
		if err := errors.Join(probed.Close(), background.Close()); err != nil {
			log.Warn("connections were not closed", "error", err.Error())
		}
	}()
	serving, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	probes.Ready(ctx, readiness(unlessReplaced(probed, c.Deployment, api.meta, stop), api.audit.Healthy))
	log.Info("ready", "address", listener.Addr().String())
	go sweep(ctx, background, log)
	staleness := reencrypt.NewStaleness(background, log)
	if err := registry.Register(staleness); err != nil {
		return fmt.Errorf("metrics: %w", err)
	}
	go staleness.Run(ctx)
	go func() {
		<-ctx.Done()
		probes.NotReady("ending")
	}()
	// The end of the chain is signed after the last request.
	served, stopAudit := context.WithCancel(context.WithoutCancel(ctx))
	var trail sync.WaitGroup
	trail.Go(func() { api.audit.Run(served) })
	go func() {
		select {
		case <-api.audit.Broken(): // a new process gets a new reader
			stop(audit.ErrBroken)
		case <-serving.Done():
		}
	}()
	err = server.Serve(serving, listener, api.handler, drain, log)
	if cause := context.Cause(serving); cause != nil && !errors.Is(cause, context.Canceled) {
		err = errors.Join(err, cause)
	}
	stopAudit()
	trail.Wait()
	return err
}

// readiness returns a check that the database answers and that the audit log can be written.
// /readyz shows its error.
func readiness(ping func(context.Context) error, recorded func() error) func(context.Context) error {
	return func(ctx context.Context) error {
		err := recorded()
		if err == nil {
			err = ping(ctx)
		}
		return explain(err)
	}
}

// unlessReplaced returns a check that the database answers. If the database is no longer the one
// that the process opened, as after a drop and a new creation, or after a restore, the check ends
// the process with stop.
func unlessReplaced(db store.Store, d config.Deployment, opened store.Meta, stop context.CancelCauseFunc) func(context.Context) error {
	return func(ctx context.Context) error {
		err := db.Ping(ctx)
		if err == nil {
			err = deployment.CheckUnchanged(ctx, db, d, opened)
		}
		for _, replaced := range []error{deployment.ErrLost, deployment.ErrOtherDeployment, deployment.ErrRestoring, store.ErrRestored} {
			if errors.Is(err, replaced) {
				stop(err)
			}
		}
		return err
	}
}

// running is the API and what it has opened.
type running struct {
	store         store.Store
	meta          store.Meta
	closeCounters func() error
	handler       http.Handler
	audit         *audit.Log
}

func (r *running) close(log *slog.Logger) {
	if err := errors.Join(r.closeCounters(), r.store.Close()); err != nil {
		log.Warn("connections were not closed", "error", err.Error())
	}
}

func start(ctx context.Context, c *config.Config, t *trust, lines io.Writer, registry prometheus.Registerer, log *slog.Logger) (_ *running, err error) {
	sessionKeys, err := t.SessionKeys(ctx)
	if err != nil {
		return nil, err
	}
	peppers, err := t.Pepper(ctx)
	if err != nil {
		return nil, err
	}
	hasher, err := accounts.NewHasher(c.Deployment.ID, c.Auth.BcryptCost, peppers)
	if err != nil {
		return nil, err
	}
	usernames, err := pepper.NewKey(c.Deployment.ID, peppers, pepper.Usernames)
	if err != nil {
		return nil, err
	}
	requests, err := pepper.NewKey(c.Deployment.ID, peppers, pepper.Requests)
	if err != nil {
		return nil, err
	}
	d, err := openData(ctx, c, t, store.RoleAPI)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, d.store.Close())
		}
	}()
	d.store.Expect(d.meta)
	tokens, err := sessions.NewCodec(c.Deployment.ID, d.meta.Epoch, sessionKeys)
	if err != nil {
		return nil, err
	}
	if err := deployment.CheckPepper(ctx, d.store, peppers); err != nil {
		return nil, err
	}
	lost, err := deployment.LostPeppers(ctx, d.store, peppers)
	if err != nil {
		return nil, err
	}
	for id, users := range lost {
		hasher.PepperLost()
		log.Error("users cannot log in, because the pepper of their passwords is not in Vault; every failed login is answered with 503. "+
			"Restore the database from a backup of its own, and restart the pods", "pepper", id, "users", users)
	}
	counters, closeCounters, err := ratelimit.OpenStore(c.RateLimits, c.Deployment.ID, d.store.Limits())
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, closeCounters())
		}
	}()
	trail, err := audit.New(lines, c.Deployment.ID, t, log)
	if err != nil {
		return nil, err
	}
	cache := envelope.NewCache(d.keys, d.store)
	logins := ratelimit.NewLogins(counters, ratelimit.Rates{
		FailedLogins: c.RateLimits.FailedLoginsPerMinute, Registrations: c.RateLimits.RegistrationsPerDay,
	})
	handler, err := httpapi.NewHandler(httpapi.Service{
		Accounts: accounts.NewService(httpapi.RecordAccounts(d.store), cache, hasher, usernames, logins, accounts.Options{
			RegistrationOpen: c.Auth.Registration == config.RegistrationOpen,
			MinPassword:      c.Auth.MinPasswordLength, TokenTTL: time.Duration(c.Auth.TokenTTL), Log: log, Now: time.Now,
			MaxAccounts: c.Quotas.Accounts,
		}),
		Notes:          notes.NewService(httpapi.RecordNotes(d.store), cache, requests, notes.Usage{Notes: c.Quotas.Notes, Bytes: c.Quotas.Bytes}),
		RequestTimeout: requestTimeout,
		Tokens:         tokens, Epoch: d.meta.Epoch, Log: log, Metrics: registry, Audit: trail,
		Requests: ratelimit.NewRequests(c.RateLimits.RequestsPerMinute), TrustedProxies: c.TrustedProxies, AllowedOrigins: c.CORS.AllowedOrigins,
	})
	if err != nil {
		return nil, err
	}
	return &running{store: d.store, meta: d.meta, closeCounters: closeCounters, handler: handler, audit: trail}, nil
}

// sweep deletes expired sessions, idempotency keys and counters. They already have no effect; sweep
// frees their space.
func sweep(ctx context.Context, db store.Store, log *slog.Logger) {
	tick := time.NewTicker(sweepInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			errSessions := inBatches(func() (int64, error) { return db.DeleteExpiredSessions(ctx, now, sweepBatch) })
			errOnce := inBatches(func() (int64, error) { return db.DeleteExpiredIdempotencyKeys(ctx, now, sweepBatch) })
			errLimits := inBatches(func() (int64, error) { return db.Limits().DeleteExpired(ctx, sweepBatch) })
			if err := errors.Join(errSessions, errOnce, errLimits); err != nil && ctx.Err() == nil {
				log.Warn("expired rows were not deleted", "error", err.Error())
			}
		}
	}
}

// inBatches repeats a deletion until a batch is incomplete.
func inBatches(remove func() (int64, error)) error {
	for {
		if n, err := remove(); err != nil || n < sweepBatch {
			return err
		}
	}
}
