package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"time"

	certmanagerv1 "github.com/cert-manager/cert-manager/pkg/apis/certmanager/v1"
	"github.com/go-logr/logr"
	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/healthz"
	"sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"github.com/securenotes/securenotes/api/v1alpha1"
	"github.com/securenotes/securenotes/controllers/internal/apply"
	"github.com/securenotes/securenotes/controllers/internal/keyrotation"
	"github.com/securenotes/securenotes/controllers/internal/notesbackup"
	"github.com/securenotes/securenotes/controllers/internal/notesrestore"
	"github.com/securenotes/securenotes/controllers/internal/operand"
	"github.com/securenotes/securenotes/controllers/internal/operatorconfig"
	"github.com/securenotes/securenotes/controllers/internal/securenotes"
	"github.com/securenotes/securenotes/controllers/internal/served"
	"github.com/securenotes/securenotes/controllers/internal/vaultadmin"
)

func managerCommand() *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use:   "manager",
		Short: "Run the controllers",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			configuration, err := operatorconfig.Load(file)
			if err != nil {
				return err
			}
			return run(cmd.Context(), configuration)
		},
	}
	cmd.Flags().StringVar(&file, "config", "/etc/securenotes-operator/config.yaml", "configuration file")
	return cmd
}

func run(ctx context.Context, configuration *operatorconfig.Config) error {
	ctrl.SetLogger(newLogger(os.Stderr, configuration.LogLevel))
	rest, err := ctrl.GetConfig()
	if err != nil {
		return fmt.Errorf("connect to Kubernetes: %w", err)
	}
	options, err := managerOptions(configuration)
	if err != nil {
		return err
	}
	manager, err := ctrl.NewManager(rest, options)
	if err != nil {
		return fmt.Errorf("start the manager: %w", err)
	}
	cluster, err := identify(ctx, configuration, manager.GetAPIReader())
	if err != nil {
		return err
	}
	if err := addControllers(manager, configuration, cluster); err != nil {
		return err
	}
	if err := manager.AddHealthzCheck("ping", healthz.Ping); err != nil {
		return err
	}
	// The operator is ready without Vault: it must run to report in conditions that Vault is
	// missing.
	if err := manager.AddReadyzCheck("ping", healthz.Ping); err != nil {
		return err
	}
	return manager.Start(ctx)
}

// newLogger returns a logger that writes JSON lines. Level debug includes V(1).
func newLogger(out io.Writer, level string) logr.Logger {
	options := &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if l, ok := a.Value.Any().(slog.Level); ok && l < slog.LevelInfo {
			a.Value = slog.AnyValue(slog.LevelDebug)
		}
		return a
	}}
	if level == operatorconfig.LogDebug {
		options.Level = slog.LevelInfo - 1
	}
	return logr.FromSlogHandler(slog.NewJSONHandler(out, options))
}

func newScheme() (*runtime.Scheme, error) {
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{clientgoscheme.AddToScheme, certmanagerv1.AddToScheme, v1alpha1.AddToScheme} {
		if err := add(scheme); err != nil {
			return nil, err
		}
	}
	return scheme, nil
}

func managerOptions(configuration *operatorconfig.Config) (ctrl.Options, error) {
	scheme, err := newScheme()
	if err != nil {
		return ctrl.Options{}, err
	}
	options := ctrl.Options{
		Scheme:                        scheme,
		Metrics:                       server.Options{BindAddress: configuration.MetricsBindAddress},
		HealthProbeBindAddress:        configuration.HealthProbeBindAddress,
		LeaderElection:                *configuration.LeaderElection,
		LeaderElectionID:              "operator.securenotes.dev",
		LeaderElectionNamespace:       configuration.OperatorNamespace,
		LeaderElectionReleaseOnCancel: true,
		Cache:                         cacheOptions(configuration),
	}
	return options, nil
}

// identity identifies a cluster. id is part of the names of what the cluster has in Vault. A
// cluster that replaces a lost one has the same id, and another uid.
type identity struct {
	id, uid string
}

// identify returns the identity of the cluster. Without a configured id, the id is the uid.
func identify(ctx context.Context, configuration *operatorconfig.Config, reader client.Reader) (identity, error) {
	uid, err := clusterUID(ctx, reader)
	return identity{id: cmp.Or(configuration.ClusterID, uid), uid: uid}, err
}

// clusterUID returns the UID of the namespace kube-system. It lives as long as the cluster, and is
// unique to it.
func clusterUID(ctx context.Context, reader client.Reader) (string, error) {
	namespace := &metav1.PartialObjectMetadata{}
	namespace.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("Namespace"))
	if err := reader.Get(ctx, client.ObjectKey{Name: metav1.NamespaceSystem}, namespace); err != nil {
		return "", fmt.Errorf("read the UID of namespace %s, which identifies the cluster: %w", metav1.NamespaceSystem, err)
	}
	return string(namespace.UID), nil
}

func addControllers(manager ctrl.Manager, configuration *operatorconfig.Config, cluster identity) error {
	vaults := map[string]*vaultadmin.Client{}
	for _, connection := range configuration.Connections() {
		vault, err := vaultadmin.NewClient(connection, time.Now)
		if err != nil {
			return err
		}
		vaults[connection.Name] = vault
	}
	// One Vault that does not respond never occupies all workers.
	workers := len(vaults)*vaultadmin.MaxCalls + 1
	if err := addInformers(context.Background(), manager.GetCache()); err != nil {
		return err
	}
	environment := operand.Environment{
		Image:      configuration.OperandImage,
		PullPolicy: corev1.PullPolicy(configuration.OperandImagePullPolicy),
		ClusterID:  cluster.id,
		ClusterUID: cluster.uid,
	}
	recorder := manager.GetEventRecorder("securenotes-operator")
	setup := func(c vaultadmin.Connection, sn *v1alpha1.SecureNotes) string {
		return setupCommandLine(configuration, cluster.id, c, sn)
	}
	notes := &securenotes.Reconciler{
		Client: manager.GetClient(), Live: manager.GetAPIReader(),
		Apply: apply.New(manager.GetClient(), manager.GetAPIReader()),
		Vault: func(name string) (securenotes.Vault, bool) {
			vault, ok := vaults[name]
			return vault, ok
		},
		Workers:             workers,
		VaultResyncInterval: time.Duration(configuration.VaultResyncInterval),
		Environment:         environment,
		SetupCommand:        setup,
		Recorder:            recorder,
		Now:                 time.Now,
		Served:              served.Of,
	}
	if err := notes.SetupWithManager(manager); err != nil {
		return fmt.Errorf("controller of SecureNotes: %w", err)
	}
	rotations := &keyrotation.Reconciler{
		Client: manager.GetClient(), Live: manager.GetAPIReader(),
		Vault: func(name string) (keyrotation.Vault, bool) {
			vault, ok := vaults[name]
			return vault, ok
		},
		Workers:      workers,
		Environment:  environment,
		SetupCommand: setup,
		Recorder:     recorder,
		Now:          time.Now,
	}
	if err := rotations.SetupWithManager(manager); err != nil {
		return fmt.Errorf("controller of KeyRotation: %w", err)
	}
	backups := &notesbackup.Reconciler{
		Client: manager.GetClient(), Live: manager.GetAPIReader(),
		Connection: func(name string) (vaultadmin.Connection, bool) {
			vault, ok := vaults[name]
			if !ok {
				return vaultadmin.Connection{}, false
			}
			return vault.Connection(), true
		},
		Workers:      workers,
		Environment:  environment,
		SetupCommand: setup,
		Recorder:     recorder,
		Now:          time.Now,
	}
	if err := backups.SetupWithManager(manager); err != nil {
		return fmt.Errorf("controller of NotesBackup: %w", err)
	}
	restores := &notesrestore.Reconciler{
		Client: manager.GetClient(), Live: manager.GetAPIReader(),
		Vault: func(name string) (notesrestore.Vault, bool) {
			vault, ok := vaults[name]
			return vault, ok
		},
		Workers:      workers,
		Environment:  environment,
		SetupCommand: setup,
		Recorder:     recorder,
		Now:          time.Now,
	}
	if err := restores.SetupWithManager(manager); err != nil {
		return fmt.Errorf("controller of NotesRestore: %w", err)
	}
	return nil
}

// setupCommandLine returns the vault-setup command for this operator and connection, with the
// rights that the object needs.
func setupCommandLine(configuration *operatorconfig.Config, clusterID string, connection vaultadmin.Connection, sn *v1alpha1.SecureNotes) string {
	arguments := []string{
		"operator", "vault-setup",
		"--cluster-id", clusterID,
		"--operator-namespace", configuration.OperatorNamespace,
		"--operator-service-account", configuration.OperatorServiceAccount,
	}
	for _, flag := range []struct{ name, value, unset string }{
		{"--auth-mount", connection.AuthMount, defaultAuthMount},
		{"--transit-mount", connection.TransitMount, defaultTransitMount},
		{"--kv-mount", connection.KVMount, defaultKVMount},
		{"--audience", connection.Audience, defaultAudience},
	} {
		if flag.value != flag.unset {
			arguments = append(arguments, flag.name, flag.value)
		}
	}
	if sn.Spec.KeyRotation != nil && sn.Spec.KeyRotation.Trim != nil {
		arguments = append(arguments, "--allow-trim")
	}
	if sn.Spec.DeletionPolicy == v1alpha1.DeletionPolicyDelete {
		arguments = append(arguments, "--allow-shred")
	}
	if operand.UsesVaultCredentials(sn) {
		arguments = append(arguments, "--database-mount", connection.DatabaseMount)
	}
	return strings.Join(arguments, " ")
}
