package vaultadmin

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/vault/api"

	"github.com/securenotes/securenotes/app/config"
)

// Archive is what one cluster has in Vault. It is for Vault's administrator; the operator has no
// right to list it.
type Archive struct {
	Client *api.Client
	// ClusterID, TransitMount and KVMount are as in [Setup].
	ClusterID, TransitMount, KVMount string
}

// CheckMounts returns an error unless both mounts are secrets engines of the right type. Vault's
// answer for a missing mount is that for an empty one.
func (a Archive) CheckMounts(ctx context.Context) error {
	mounts, err := a.Client.Sys().ListMountsWithContext(ctx)
	if err != nil {
		return fmt.Errorf("list secrets engines: %w", err)
	}
	if mount, ok := mounts[a.TransitMount+"/"]; !ok || mount.Type != "transit" {
		return fmt.Errorf("%s is not a transit secrets engine: name the mount with --transit-mount", a.TransitMount)
	}
	if mount, ok := mounts[a.KVMount+"/"]; !ok || mount.Type != "kv" || mount.Options["version"] != "2" {
		return fmt.Errorf("%s is not a kv secrets engine of version 2: name the mount with --kv-mount", a.KVMount)
	}
	return nil
}

// List returns everything that the cluster has in both mounts, by namespace and name. It leaves out
// names with destroyed values only, as after deletionPolicy Delete. Error: there is nothing at all,
// as for the id of no cluster.
func (a Archive) List(ctx context.Context) ([]Kept, error) {
	names, err := a.names(ctx)
	if err != nil {
		return nil, err
	}
	keys, err := a.masterKeys(ctx)
	if err != nil {
		return nil, err
	}
	if len(names)+len(keys) == 0 {
		return nil, fmt.Errorf("neither %s nor %s has anything of the cluster id %s: the cluster has never had a SecureNotes, or everything of it was destroyed, "+
			"or it has another id (--cluster-id, see `vault list %s/metadata/securenotes`) or other mounts (--transit-mount, --kv-mount)",
			a.TransitMount, a.KVMount, a.ClusterID, a.KVMount)
	}
	var all []Kept
	for _, name := range names {
		keys = slices.DeleteFunc(keys, func(key [2]string) bool { return key == name })
		kept, err := a.Read(ctx, name[0], name[1])
		if err != nil {
			return nil, err
		}
		if kept.Marker.UID == "" && !kept.hasKey {
			if left, err := a.left(ctx, name[0], name[1]); err != nil {
				return nil, err
			} else if !left {
				continue
			}
		}
		all = append(all, kept)
	}
	for _, key := range keys {
		all = append(all, Kept{Namespace: key[0], Name: key[1], NoMarker: true, hasKey: true})
	}
	slices.SortStableFunc(all, func(a, b Kept) int {
		return cmp.Or(strings.Compare(a.Namespace, b.Namespace), strings.Compare(a.Name, b.Name))
	})
	return all, nil
}

// names returns the namespaces and names of the cluster's KV directories.
func (a Archive) names(ctx context.Context) ([][2]string, error) {
	namespaces, err := a.list(ctx, config.KVRoot(a.ClusterID))
	if err != nil {
		return nil, err
	}
	var all [][2]string
	for _, namespace := range namespaces {
		names, err := a.list(ctx, config.KVRoot(a.ClusterID)+"/"+namespace)
		if err != nil {
			return nil, err
		}
		for _, name := range names {
			all = append(all, [2]string{namespace, name})
		}
	}
	return all, nil
}

// masterKeys returns the namespaces and names in the names of the cluster's master keys.
func (a Archive) masterKeys(ctx context.Context) ([][2]string, error) {
	keys, err := a.listPath(ctx, a.TransitMount+"/keys")
	if err != nil {
		return nil, err
	}
	var all [][2]string
	for _, key := range keys {
		if rest, ok := strings.CutPrefix(key, config.TransitKeyPrefix(a.ClusterID)); ok {
			namespace, name, _ := strings.Cut(rest, ".")
			all = append(all, [2]string{namespace, name})
		}
	}
	return all, nil
}

// Read returns what Vault has of one name.
func (a Archive) Read(ctx context.Context, namespace, name string) (Kept, error) {
	kept := Kept{Namespace: namespace, Name: name}
	created, err := a.readMasterKey(ctx, &kept)
	if err != nil {
		return Kept{}, err
	}
	return kept, a.readMarker(ctx, &kept, created)
}

// left reports whether one name has a value that can be read or restored.
func (a Archive) left(ctx context.Context, namespace, name string) (bool, error) {
	directory := config.KVPath(a.ClusterID, namespace, name)
	leaves, err := a.list(ctx, directory)
	if err != nil {
		return false, err
	}
	for _, leaf := range leaves {
		path := a.KVMount + "/metadata/" + directory + "/" + leaf
		secret, err := a.Client.Logical().ReadWithContext(ctx, path)
		if err != nil {
			return false, fmt.Errorf("read %s: %w", path, err)
		}
		if secret == nil {
			continue
		}
		if found, err := parseEntry(secret, path, time.Now()); err != nil || len(found.left) > 0 {
			return true, err
		}
	}
	return false, nil
}

// Shred irreversibly destroys the keys, the session keys and the pepper of one name. It can be
// repeated: the marker, which records that it started, is destroyed last. Without a marker, the
// master key is the last, and Shred needs it to start. Errors: Vault's state of the name is no
// longer wanted; the mount has no master key of the name, and no shred was interrupted.
func (a Archive) Shred(ctx context.Context, wanted Kept) error {
	namespace, name := wanted.Namespace, wanted.Name
	kept, err := a.Read(ctx, namespace, name)
	if err != nil {
		return err
	}
	if kept.Marker.UID != wanted.Marker.UID || kept.NoMarker != wanted.NoMarker || kept.version != wanted.version {
		return fmt.Errorf("the marker of %s/%s has changed meanwhile: see `operator retained list`; nothing was destroyed", namespace, name)
	}
	key, directory := config.TransitKeyName(a.ClusterID, namespace, name), config.KVPath(a.ClusterID, namespace, name)
	if !kept.hasKey && kept.shredding != a.TransitMount {
		return fmt.Errorf("the mount %s has no master key %s, and no shred there was interrupted: name the mount that has it with --transit-mount; "+
			"if it is destroyed already, delete what is left below %s/%s with `vault kv metadata delete`; nothing was destroyed", a.TransitMount, key, a.KVMount, directory)
	}
	shredMaster := func() error { return a.shredKey(ctx, key) }
	shredSigning := func() error {
		if err := a.shredKey(ctx, config.AuditKeyName(a.ClusterID, namespace, name)); err != nil {
			return err
		}
		return a.shredKey(ctx, config.BackupKeyName(a.ClusterID, namespace, name))
	}
	shredEntries := func() error { return a.shredEntries(ctx, directory) }
	steps := []func() error{shredSigning, shredEntries, shredMaster}
	if !kept.NoMarker {
		record := func() error { return a.recordShredding(ctx, directory) }
		steps = []func() error{record, shredMaster, shredSigning, shredEntries}
	}
	for _, step := range steps {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

// shredEntries destroys the entries of a KV directory, the marker last.
func (a Archive) shredEntries(ctx context.Context, directory string) error {
	leaves, err := a.list(ctx, directory)
	if err != nil {
		return err
	}
	leaves = append(slices.DeleteFunc(leaves, func(leaf string) bool { return leaf == config.MarkerLeaf }), config.MarkerLeaf)
	for _, leaf := range leaves {
		path := a.KVMount + "/metadata/" + directory + "/" + leaf
		if _, err := a.Client.Logical().DeleteWithContext(ctx, path); err != nil {
			return fmt.Errorf("delete %s: %w", path, err)
		}
	}
	return nil
}

func (a Archive) shredKey(ctx context.Context, key string) error {
	path := a.TransitMount + "/keys/" + key
	secret, err := a.Client.Logical().ReadWithContext(ctx, path)
	if err != nil {
		return fmt.Errorf("read %s: %w", path, err)
	}
	if secret == nil {
		return nil
	}
	if _, err := a.Client.Logical().WriteWithContext(ctx, path+"/config", map[string]any{"deletion_allowed": true}); err != nil {
		return fmt.Errorf("allow the deletion of %s: %w", path, err)
	}
	if _, err := a.Client.Logical().DeleteWithContext(ctx, path); err != nil {
		return fmt.Errorf("delete %s: %w", path, err)
	}
	return nil
}

// list returns the entries of a KV directory.
func (a Archive) list(ctx context.Context, directory string) ([]string, error) {
	return a.listPath(ctx, a.KVMount+"/metadata/"+directory)
}

// listPath returns what Vault lists, without the slash that marks a directory.
func (a Archive) listPath(ctx context.Context, path string) ([]string, error) {
	secret, err := a.Client.Logical().ListWithContext(ctx, path)
	if err != nil {
		return nil, fmt.Errorf("list %s: %w", path, err)
	}
	if secret == nil {
		return nil, nil
	}
	keys, _ := secret.Data["keys"].([]any)
	names := make([]string, len(keys))
	for i, key := range keys {
		names[i] = strings.TrimSuffix(fmt.Sprint(key), "/")
	}
	return names, nil
}
