package main

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/securenotes/securenotes/api/v1alpha1"
	"github.com/securenotes/securenotes/app/config"
	"github.com/securenotes/securenotes/controllers/internal/vaultadmin"
)

// retainedFlags are the flags of both subcommands.
type retainedFlags struct {
	clusterID, transitMount, kvMount string
}

func retainedCommand() *cobra.Command {
	flags := &retainedFlags{}
	cmd := &cobra.Command{
		Use:   "retained",
		Short: "List and destroy the keys that deleted SecureNotes left in Vault",
		Long: `Compares what a cluster has in Vault with the SecureNotes of the cluster in KUBECONFIG. It is for the
Vault administrator, because the operator may not list what is in Vault.

The Vault server and the token come from the environment, as for the vault command: VAULT_ADDR,
VAULT_TOKEN, VAULT_CACERT, VAULT_NAMESPACE. In the cluster it needs the right to get namespaces and
securenotes.`,
	}
	persistent := cmd.PersistentFlags()
	persistent.StringVar(&flags.clusterID, "cluster-id", "", "clusterID of the operator's chart (default: the UID of the namespace kube-system of the cluster in KUBECONFIG)")
	persistent.StringVar(&flags.transitMount, "transit-mount", defaultTransitMount, "mount of the transit secrets engine")
	persistent.StringVar(&flags.kvMount, "kv-mount", defaultKVMount, "mount of the kv secrets engine, version 2")
	cmd.AddCommand(retainedListCommand(flags), retainedShredCommand(flags))
	return cmd
}

func retainedListCommand(flags *retainedFlags) *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "List the keys in Vault that no SecureNotes of the cluster uses",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			r, err := flags.open(cmd)
			if err != nil {
				return err
			}
			return r.list(cmd.Context(), cmd.OutOrStdout())
		},
	}
}

func retainedShredCommand(flags *retainedFlags) *cobra.Command {
	request := shredRequest{}
	cmd := &cobra.Command{
		Use:   "shred NAMESPACE/NAME {--uid UID [--of-cluster UID] | --without-marker}",
		Short: "Destroy the keys of one deleted SecureNotes, and with them its notes",
		Long: `Destroys the master key, the audit key, the backup key, the session keys and the pepper that the
SecureNotes with the given uid left in Vault. After that nobody can read its notes, neither in the database nor in a backup.

It asks for the uid again on standard input before it destroys anything. It rejects keys that a
SecureNotes of the cluster uses. It also rejects keys of another cluster, which may have replaced this
one and use them, unless --of-cluster names that cluster as the list does. It asks only the cluster in
KUBECONFIG.`,
		Example: `  operator retained list
  operator retained shred shop/notes --uid 7d0e4c1a-53d2-4f6e-9d2c-0a1b2c3d4e5f`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			var ok bool
			request.namespace, request.name, ok = strings.Cut(args[0], "/")
			if !ok || request.namespace == "" || request.name == "" || strings.Contains(request.name, "/") {
				return fmt.Errorf("%q is not NAMESPACE/NAME", args[0])
			}
			if (request.uid == "") != request.withoutMarker {
				return errors.New("either --uid, which `operator retained list` shows, or --without-marker is required")
			}
			r, err := flags.open(cmd)
			if err != nil {
				return err
			}
			return r.shred(cmd.Context(), cmd.InOrStdin(), cmd.OutOrStdout(), request)
		},
	}
	cmd.Flags().StringVar(&request.uid, "uid", "", "uid of the SecureNotes whose keys they are, from the list")
	cmd.Flags().StringVar(&request.ofCluster, "of-cluster", "", "cluster of the keys, from the list: the UID of its namespace kube-system, or "+clusterUnknown+"; required unless it is this one")
	cmd.Flags().BoolVar(&request.withoutMarker, "without-marker", false, "destroy keys that have no marker, and so no known owner")
	return cmd
}

func (f *retainedFlags) open(cmd *cobra.Command) (*retained, error) {
	cluster, err := connectCluster()
	if err != nil {
		return nil, err
	}
	own, err := clusterUID(cmd.Context(), cluster)
	if err != nil {
		return nil, err
	}
	id := f.clusterID
	if id == "" {
		id = own
	}
	if err := vaultadmin.ValidateClusterID(id); err != nil {
		return nil, fmt.Errorf("--cluster-id: %w", err)
	}
	vault, err := administrator()
	if err != nil {
		return nil, err
	}
	archive := vaultadmin.Archive{Client: vault, ClusterID: id, TransitMount: f.transitMount, KVMount: f.kvMount}
	if err := archive.CheckMounts(cmd.Context()); err != nil {
		return nil, err
	}
	return &retained{cluster: cluster, own: own, archive: archive}, nil
}

// retained compares what is in Vault with one cluster.
type retained struct {
	cluster client.Reader
	// own is the UID of the cluster's namespace kube-system.
	own     string
	archive vaultadmin.Archive
}

// The states of the SecureNotes that keys belong to.
const (
	stateInUse              = "in use"
	stateNamespaceGone      = "namespace gone"
	stateNamespaceRecreated = "namespace recreated"
	stateObjectGone         = "SecureNotes gone"
	stateObjectRecreated    = "SecureNotes recreated"
	stateNoMarker           = "no readable marker"
	stateNoName             = "not a name that the operator gives"
	// stateMarkerDiffers: anyone who has the operator's Vault token can write to the marker, so the
	// marker alone does not decide whether keys are in use.
	stateMarkerDiffers = "in use, but the marker names another"
	// stateOtherCluster: only that cluster knows whether the keys are in use.
	stateOtherCluster = "of another cluster"
	// stateKeyOnly: the owner of the key is not known.
	stateKeyOnly = "no marker"
	// stateMarkerChanged is appended to a state from a marker that somebody may have changed.
	stateMarkerChanged = ", if the marker is right, which may have been changed"
)

// Names of clusters in the list, besides UIDs.
const (
	clusterThis = "this"
	// clusterUnknown stands for a marker of an earlier release, or one that may have been changed.
	clusterUnknown = "unknown"
)

// standing says to which cluster keys belong, and whether they are in use.
type standing struct {
	// cluster is clusterThis, clusterUnknown, or the UID of another cluster.
	cluster, state string
}

func (r *retained) list(ctx context.Context, out io.Writer) error {
	all, err := r.archive.List(ctx)
	if err != nil {
		return err
	}
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "NAMESPACE\tNAME\tUID\tCLUSTER\tSTATE")
	count := 0
	for _, kept := range all {
		found, err := r.standing(ctx, kept)
		if err != nil {
			return err
		}
		if found.state == stateInUse {
			continue
		}
		uid := kept.Marker.UID
		if uid == "" {
			uid = "-"
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\n", plain(kept.Namespace), plain(kept.Name), uid, found.cluster, found.state)
		count++
	}
	if count == 0 {
		fmt.Fprintf(out, "Vault has no retained keys under the cluster id %s.\n", r.archive.ClusterID)
		return nil
	}
	return table.Flush()
}

// plain returns a text that is safe for a terminal. Anyone who has the operator's Vault token can
// write the names in KV.
func plain(text string) string {
	if quoted := strconv.QuoteToASCII(text); quoted != `"`+text+`"` || text == "" || strings.Contains(text, " ") {
		return quoted
	}
	return text
}

// standing returns the current standing of keys. If somebody has changed the marker, it does not
// decide alone that the keys belong to this cluster: another cluster in an earlier version counts.
func (r *retained) standing(ctx context.Context, kept vaultadmin.Kept) (standing, error) {
	found, err := r.markedStanding(ctx, kept)
	if err != nil || !kept.Changed || !slices.Contains([]string{stateNamespaceGone, stateNamespaceRecreated, stateObjectGone, stateObjectRecreated}, found.state) {
		return found, err
	}
	found.cluster, found.state = clusterUnknown, found.state+stateMarkerChanged
	for _, of := range kept.Clusters {
		if of != r.own {
			found.cluster = of
			break
		}
	}
	return found, nil
}

// markedStanding returns the standing according to the marker.
func (r *retained) markedStanding(ctx context.Context, kept vaultadmin.Kept) (standing, error) {
	found := standing{cluster: clusterUnknown}
	if kept.Marker.ClusterUID != "" {
		found.cluster = kept.Marker.ClusterUID
	}
	if found.cluster == r.own {
		found.cluster = clusterThis
	}
	if len(validation.IsDNS1123Label(kept.Namespace)) > 0 || len(validation.IsDNS1123Subdomain(kept.Name)) > 0 {
		found.state = stateNoName
		return found, nil
	}
	sn := &v1alpha1.SecureNotes{}
	err := r.cluster.Get(ctx, client.ObjectKey{Namespace: kept.Namespace, Name: kept.Name}, sn)
	// A cluster that does not know the kind has no such object.
	exists := err == nil
	if err != nil && !apierrors.IsNotFound(err) && !meta.IsNoMatchError(err) {
		return standing{}, fmt.Errorf("read SecureNotes %s/%s: %w", kept.Namespace, kept.Name, err)
	}
	switch {
	case exists && string(sn.UID) == kept.Marker.UID:
		found.state = stateInUse
		return found, nil
	case exists && sn.Status.DeploymentID != "" && (sn.Status.MasterKey == nil || sn.Status.MasterKey.Name == config.TransitKeyName(r.archive.ClusterID, kept.Namespace, kept.Name)):
		found.state = stateMarkerDiffers
		return found, nil
	case kept.NoMarker:
		found.state = stateKeyOnly
		return found, nil
	case kept.Marker.UID == "":
		found.state = stateNoMarker
		return found, nil
	case found.cluster != clusterThis && found.cluster != clusterUnknown:
		found.state = stateOtherCluster
		return found, nil
	}
	namespace := &metav1.PartialObjectMetadata{}
	namespace.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("Namespace"))
	err = r.cluster.Get(ctx, client.ObjectKey{Name: kept.Namespace}, namespace)
	switch {
	case apierrors.IsNotFound(err):
		found.state = stateNamespaceGone
		return found, nil
	case err != nil:
		return standing{}, fmt.Errorf("read namespace %s: %w", kept.Namespace, err)
	case string(namespace.UID) == kept.Marker.NamespaceUID:
		// Only this cluster has the namespace.
		found.cluster = clusterThis
	case kept.Marker.NamespaceUID != "":
		found.state = stateNamespaceRecreated
		return found, nil
	}
	found.state = stateObjectGone
	if exists {
		found.state = stateObjectRecreated
	}
	return found, nil
}

// shredRequest holds the arguments of shred.
type shredRequest struct {
	namespace, name, uid, ofCluster string
	withoutMarker                   bool
}

// confirmation returns what the user must type.
func (s shredRequest) confirmation() string {
	if s.withoutMarker {
		return s.namespace + "/" + s.name
	}
	return s.uid
}

func (r *retained) shred(ctx context.Context, in io.Reader, out io.Writer, request shredRequest) error {
	kept, err := r.archive.Read(ctx, request.namespace, request.name)
	if err != nil {
		return err
	}
	if err := request.checkMarker(kept, r.archive); err != nil {
		return err
	}
	found, err := r.standing(ctx, kept)
	if err != nil {
		return err
	}
	if found.state == stateInUse || found.state == stateMarkerDiffers {
		return fmt.Errorf("SecureNotes %s/%s uses these keys: delete it first; with deletionPolicy Delete, the operator then destroys them", request.namespace, request.name)
	}
	if !request.withoutMarker {
		if err := request.checkCluster(found, r.archive.ClusterID); err != nil {
			return err
		}
	}
	fmt.Fprintf(out, "%s/%s, uid %s: %s.\n", request.namespace, request.name, cmp.Or(request.uid, "unknown"), found.state)
	fmt.Fprintf(out, "Every note of it becomes permanently unreadable, also in backups of its database.\n"+
		"Only the cluster in KUBECONFIG was asked whether it uses these keys. Another cluster with the cluster id %s may use them: check there first.\n", r.archive.ClusterID)
	fmt.Fprintf(out, "If no cluster uses them, type %s to destroy them: ", request.confirmation())
	line, err := bufio.NewReader(in).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("read the confirmation from standard input: %w", err)
	}
	if strings.TrimSpace(line) != request.confirmation() {
		return fmt.Errorf("the confirmation is not %s: nothing was destroyed", request.confirmation())
	}
	if err := r.archive.Shred(ctx, kept); err != nil {
		return err
	}
	fmt.Fprintf(out, "Destroyed: the mounts %s and %s hold nothing of %s/%s now.\n", r.archive.TransitMount, r.archive.KVMount, request.namespace, request.name)
	return nil
}

// checkMarker rejects keys whose marker does not name the requested uid, and keys with a marker if
// the request says that there is none.
func (s shredRequest) checkMarker(kept vaultadmin.Kept, archive vaultadmin.Archive) error {
	switch {
	case !kept.NoMarker && kept.Marker.UID == "":
		return fmt.Errorf("%s/%s has a marker that cannot be read: restore an earlier version of it; if no version can be read, and no cluster with the cluster id %s needs the keys, "+
			"delete it with `vault kv metadata delete -mount=%s %s/%s`, and repeat the command with --without-marker instead of --uid; nothing was destroyed",
			s.namespace, s.name, archive.ClusterID, archive.KVMount, config.KVPath(archive.ClusterID, s.namespace, s.name), config.MarkerLeaf)
	case s.withoutMarker && !kept.NoMarker:
		return fmt.Errorf("%s/%s has a marker: name its uid with --uid instead of --without-marker; nothing was destroyed", s.namespace, s.name)
	case s.withoutMarker, kept.Marker.UID != "" && kept.Marker.UID == s.uid:
		return nil
	case kept.NoMarker:
		return fmt.Errorf("the marker of %s/%s under the cluster id %s is missing, so the owner of the keys is not known: see `operator retained list`; "+
			"if nobody needs them, repeat the command with --without-marker instead of --uid; nothing was destroyed", s.namespace, s.name, archive.ClusterID)
	default:
		return fmt.Errorf("the keys of %s/%s under the cluster id %s in Vault do not belong to a SecureNotes with the uid %s: see `operator retained list`",
			s.namespace, s.name, archive.ClusterID, s.uid)
	}
}

// checkCluster rejects keys of a cluster that was not asked whether it uses them, unless the
// request names that cluster.
func (s shredRequest) checkCluster(found standing, clusterID string) error {
	switch of := found.cluster; {
	case s.ofCluster == of, s.ofCluster == "" && of == clusterThis:
		return nil
	case s.ofCluster != "":
		return fmt.Errorf("--of-cluster is %s, but `operator retained list` shows that the keys of %s/%s belong to %s: nothing was destroyed", s.ofCluster, s.namespace, s.name, of)
	case of == clusterUnknown:
		return fmt.Errorf("the cluster of the keys of %s/%s is not known, because an earlier release of the operator wrote the marker, or because somebody may have changed it (%s): "+
			"if no other cluster has the cluster id %s, repeat the command with --of-cluster %s; nothing was destroyed", s.namespace, s.name, found.state, clusterID, clusterUnknown)
	default:
		return fmt.Errorf("the keys of %s/%s belong to another cluster of the cluster id %s, whose namespace kube-system has the uid %s (%s): "+
			"run `operator retained list` there; if that cluster is gone for good, repeat the command with --of-cluster %s; nothing was destroyed", s.namespace, s.name, clusterID, of, found.state, of)
	}
}
