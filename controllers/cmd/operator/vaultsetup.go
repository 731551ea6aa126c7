package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"github.com/hashicorp/vault/api"
	"github.com/spf13/cobra"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/securenotes/securenotes/controllers/internal/vaultadmin"
)

// The defaults of a Vault connection. The operator's configuration has the same.
const (
	defaultAuthMount    = "kubernetes"
	defaultTransitMount = "transit"
	defaultKVMount      = "secret"
	defaultAudience     = "vault"
)

func setupCommand() *cobra.Command {
	var (
		setup  vaultadmin.Setup
		dryRun bool
		files  authFiles
	)
	cmd := &cobra.Command{
		Use:   "vault-setup",
		Short: "Set up in Vault what the operator and the notes services need",
		Long: `Enables the auth method and the secrets engines if they are missing, and writes the policies and
roles. The Vault administrator runs it once for each cluster, and can repeat it. A repeated run changes
only what its flags name. It keeps the rest of the auth method's configuration, and the rights
that an earlier run granted. Without --replace-settings it rejects mounts, an operator account or an
audience that differ from those of an earlier run. It changes nothing in an auth mount that another
cluster uses. At the end it logs in as the operator, with a token that it requests from the cluster in
KUBECONFIG, or says why it could not try.

The server and the token come from the environment, as for the vault command: VAULT_ADDR, VAULT_TOKEN,
VAULT_CACERT, VAULT_NAMESPACE. The running operator cannot write any of this, so it cannot grant itself
rights.`,
		Example: `  operator vault-setup --dry-run
  operator vault-setup --cluster-id "$(kubectl get namespace kube-system -o jsonpath='{.metadata.uid}')"
  operator vault-setup --kubernetes-host https://kubernetes.example.com:6443 --kubernetes-ca-file ca.crt \
    --token-reviewer-jwt-file reviewer.jwt`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 { // an argument may be a token, so it is not printed
				return errors.New("vault-setup takes no arguments, only flags")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := refuseEmpty(cmd); err != nil {
				return err
			}
			if setup.ClusterID == "" {
				id, err := askClusterID(cmd)
				if err != nil {
					return err
				}
				setup.ClusterID = id
			}
			if err := vaultadmin.ValidateClusterID(setup.ClusterID); err != nil {
				return fmt.Errorf("--cluster-id: %w", err)
			}
			if err := files.read(cmd.InOrStdin(), &setup); err != nil {
				return err
			}
			setup.Withdraw = withdrawn(cmd, setup)
			vault, err := administrator()
			if err != nil {
				return err
			}
			if err := setup.Apply(cmd.Context(), vault, cmd.OutOrStdout(), dryRun); err != nil || dryRun {
				return err
			}
			return tryLogin(cmd, setup, vault)
		},
	}
	flags := cmd.Flags()
	flags.BoolVar(&dryRun, "dry-run", false, "change nothing; print what would be written")
	flags.BoolVar(&setup.AllowTrim, "allow-trim", false, "let the operator destroy key versions permanently if spec.keyRotation.trim requests it; the right stays until --allow-trim=false")
	flags.BoolVar(&setup.AllowShred, "allow-shred", false, "let the operator destroy keys and peppers permanently if spec.deletionPolicy is Delete; the right stays until --allow-shred=false")
	flags.StringVar(&setup.ClusterID, "cluster-id", "", "clusterID of the operator's chart (default: the UID of the namespace kube-system of the cluster in KUBECONFIG)")
	flags.StringVar(&setup.OperatorNamespace, "operator-namespace", "securenotes-system", "namespace of the operator")
	flags.StringVar(&setup.OperatorServiceAccount, "operator-service-account", "securenotes-operator", "service account of the operator")
	flags.StringVar(&setup.AuthMount, "auth-mount", defaultAuthMount, "mount of the Kubernetes auth method")
	flags.StringVar(&setup.TransitMount, "transit-mount", defaultTransitMount, "mount of the transit secrets engine")
	flags.StringVar(&setup.KVMount, "kv-mount", defaultKVMount, "mount of the kv secrets engine, version 2")
	flags.StringVar(&setup.DatabaseMount, "database-mount", "", "mount of the database secrets engine that creates database credentials for the notes services; SecureNotes with database.postgres.vaultCredentials need it; the rights stay until --database-mount=")
	flags.StringVar(&setup.Audience, "audience", defaultAudience, "audience of service-account tokens")
	flags.StringVar(&setup.KubernetesHost, "kubernetes-host", "", "URL of the Kubernetes API server as Vault reaches it, for the auth method's configuration (a Vault in the same cluster uses https://kubernetes.default.svc)")
	flags.BoolVar(&setup.ReplaceAPIServer, "replace-api-server", false, "make the auth mount trust the API server of --kubernetes-host and --kubernetes-ca-file, in place of another API server or CA; the accounts of its cluster can then log in with every role of the mount")
	flags.BoolVar(&setup.ReplaceSettings, "replace-settings", false, "replace the mounts, the operator's namespace and service account, and the audience of an earlier run with the same auth mount; SecureNotes that use the earlier ones lose their rights")
	flags.StringVar(&files.ca, "kubernetes-ca-file", "", "PEM file with the API server's certificate authority, for the auth method's configuration (default: the one in Vault's own pod)")
	flags.StringVar(&files.jwt, "token-reviewer-jwt-file", "", "file with the token of a service account that may review tokens, or - for standard input; a Vault outside the cluster needs it (default: the one in Vault's own pod)")
	return cmd
}

// authFiles are the paths of files with parts of the auth method's configuration.
type authFiles struct{ ca, jwt string }

// read reads the files into the setup, and validates the parts of the configuration.
func (f authFiles) read(stdin io.Reader, setup *vaultadmin.Setup) error {
	if setup.KubernetesHost != "" {
		if err := vaultadmin.ValidateKubernetesHost(setup.KubernetesHost); err != nil {
			return fmt.Errorf("--kubernetes-host: %w", err)
		}
	}
	if f.ca != "" {
		raw, err := os.ReadFile(f.ca)
		if err != nil {
			return fmt.Errorf("--kubernetes-ca-file: %w", err)
		}
		setup.KubernetesCA = string(raw)
		if err := vaultadmin.ValidateKubernetesCA(setup.KubernetesCA); err != nil {
			return fmt.Errorf("--kubernetes-ca-file %s: %w", f.ca, err)
		}
	}
	if f.jwt == "" {
		return nil
	}
	read := func() ([]byte, error) { return os.ReadFile(f.jwt) }
	if f.jwt == "-" {
		read = func() ([]byte, error) { return io.ReadAll(stdin) }
	}
	raw, err := read()
	if err != nil {
		// The path may be the token itself.
		if failed, ok := errors.AsType[*fs.PathError](err); ok {
			err = failed.Err
		}
		return fmt.Errorf("--token-reviewer-jwt-file: cannot read the file: %w; give a path, or - for standard input, and not the token itself", err)
	}
	setup.TokenReviewerJWT = strings.TrimSpace(string(raw))
	if err := vaultadmin.ValidateTokenReviewerJWT(setup.TokenReviewerJWT); err != nil {
		return fmt.Errorf("--token-reviewer-jwt-file: %w", err)
	}
	return nil
}

// refuseEmpty returns an error for a flag with an empty value, as from an unset variable of a
// script. With an empty audience, for example, Vault would accept tokens of any audience.
func refuseEmpty(cmd *cobra.Command) error {
	for _, name := range []string{
		"cluster-id", "operator-namespace", "operator-service-account", "auth-mount", "transit-mount", "kv-mount", "audience",
		"kubernetes-host", "kubernetes-ca-file", "token-reviewer-jwt-file",
	} {
		if flag := cmd.Flags().Lookup(name); flag.Changed && flag.Value.String() == "" {
			return fmt.Errorf("--%s is empty: give it a value, or omit it", name)
		}
	}
	return nil
}

// withdrawn returns the rights that the flags withdraw.
func withdrawn(cmd *cobra.Command, setup vaultadmin.Setup) vaultadmin.Rights {
	flags := cmd.Flags()
	return vaultadmin.Rights{
		Trim:     flags.Changed("allow-trim") && !setup.AllowTrim,
		Shred:    flags.Changed("allow-shred") && !setup.AllowShred,
		Database: flags.Changed("database-mount") && setup.DatabaseMount == "",
	}
}

// administrator returns the Vault client that the environment describes.
func administrator() (*api.Client, error) {
	configuration := api.DefaultConfig()
	if configuration.Error != nil {
		return nil, fmt.Errorf("VAULT_* environment: %w", configuration.Error)
	}
	vault, err := api.NewClient(configuration)
	if err != nil {
		return nil, fmt.Errorf("VAULT_* environment: %w", err)
	}
	if vault.Token() == "" {
		return nil, errors.New("VAULT_TOKEN is not set: export the token of a Vault administrator")
	}
	return vault, nil
}

// askClusterID returns the UID of the cluster in KUBECONFIG.
func askClusterID(cmd *cobra.Command) (string, error) {
	cluster, err := connectCluster()
	if err != nil {
		return "", fmt.Errorf("--cluster-id is not set: %w", err)
	}
	return clusterUID(cmd.Context(), cluster)
}

// connectCluster returns a client of the cluster in KUBECONFIG.
func connectCluster() (client.Client, error) {
	rest, err := ctrl.GetConfig()
	if err != nil {
		return nil, fmt.Errorf("no cluster is configured in KUBECONFIG: %w", err)
	}
	scheme, err := newScheme()
	if err != nil {
		return nil, err
	}
	cluster, err := client.New(rest, client.Options{Scheme: scheme})
	if err != nil {
		return nil, fmt.Errorf("connect to the cluster in KUBECONFIG: %w", err)
	}
	return cluster, nil
}
