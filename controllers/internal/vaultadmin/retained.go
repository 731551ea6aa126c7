package vaultadmin

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/vault/api"

	"github.com/securenotes/securenotes/app/config"
)

// Archive is what one cluster has in Vault, for Vault's administrator: the operator itself may not
// list it.
type Archive struct {
	Client *api.Client
	// ClusterID, TransitMount and KVMount are as in [Setup].
	ClusterID, TransitMount, KVMount string
}

// Kept is what one SecureNotes has, or had, in Vault.
type Kept struct {
	Namespace, Name string
	// Marker says whose it is. Its UID is empty where there is none, or none that can be read.
	Marker config.Marker
}

// List returns everything below the cluster's KV directory, in the order of Vault's listing, by
// name. It leaves out names of which nothing but the metadata of destroyed values is left, as after
// deletionPolicy Delete.
func (a Archive) List(ctx context.Context) ([]Kept, error) {
	var all []Kept
	namespaces, err := a.list(ctx, config.KVRoot(a.ClusterID))
	if err != nil {
		return nil, err
	}
	for _, namespace := range namespaces {
		names, err := a.list(ctx, config.KVRoot(a.ClusterID)+"/"+namespace)
		if err != nil {
			return nil, err
		}
		for _, name := range names {
			kept, err := a.Read(ctx, namespace, name)
			if err != nil {
				return nil, err
			}
			if kept.Marker.UID == "" {
				if left, err := a.left(ctx, namespace, name); err != nil {
					return nil, err
				} else if !left {
					continue
				}
			}
			all = append(all, kept)
		}
	}
	return all, nil
}

// Read returns what there is of one name.
func (a Archive) Read(ctx context.Context, namespace, name string) (Kept, error) {
	kept := Kept{Namespace: namespace, Name: name}
	path := a.KVMount + "/data/" + config.KVPath(a.ClusterID, namespace, name) + "/" + config.MarkerLeaf
	secret, err := a.Client.Logical().ReadWithContext(ctx, path)
	if err != nil && !isStatus(err, http.StatusNotFound) {
		return Kept{}, fmt.Errorf("read %s: %w", path, err)
	}
	if secret == nil {
		return kept, nil
	}
	raw, err := json.Marshal(secret.Data["data"])
	if err != nil {
		return Kept{}, fmt.Errorf("read %s: %w", path, err)
	}
	if marker, err := config.ParseMarker(raw); err == nil {
		kept.Marker = marker
	}
	return kept, nil
}

// left reports whether there is a master key, or a value that can be read or restored, of one name.
func (a Archive) left(ctx context.Context, namespace, name string) (bool, error) {
	path := a.TransitMount + "/keys/" + config.TransitKeyName(a.ClusterID, namespace, name)
	secret, err := a.Client.Logical().ReadWithContext(ctx, path)
	if err != nil {
		return false, fmt.Errorf("read %s: %w", path, err)
	}
	if secret != nil {
		return true, nil
	}
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

// Shred destroys the keys, the session keys and the pepper of one name for good, and the marker
// last, so that it can be repeated. Error: it no longer belongs to the object, or the cluster, that
// wanted names.
func (a Archive) Shred(ctx context.Context, wanted Kept) error {
	namespace, name := wanted.Namespace, wanted.Name
	kept, err := a.Read(ctx, namespace, name)
	if err != nil {
		return err
	}
	if kept.Marker.UID == "" || kept.Marker.UID != wanted.Marker.UID || kept.Marker.ClusterUID != wanted.Marker.ClusterUID {
		return fmt.Errorf("what Vault has of %s/%s no longer belongs to the SecureNotes of uid %s: nothing was destroyed", namespace, name, wanted.Marker.UID)
	}
	mounts, err := a.Client.Sys().ListMountsWithContext(ctx)
	if err != nil {
		return fmt.Errorf("list secrets engines: %w", err)
	}
	// Vault answers for a mount that is missing as it does for a key that is.
	if mount, ok := mounts[a.TransitMount+"/"]; !ok || mount.Type != "transit" {
		return fmt.Errorf("%s is not a transit secrets engine: name the mount with --transit-mount; nothing was destroyed", a.TransitMount)
	}
	for _, key := range []string{config.TransitKeyName(a.ClusterID, namespace, name), config.AuditKeyName(a.ClusterID, namespace, name)} {
		if err := a.shredKey(ctx, key); err != nil {
			return err
		}
	}
	directory := config.KVPath(a.ClusterID, namespace, name)
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

// list returns the entries of a KV directory, without the slash that marks another directory.
func (a Archive) list(ctx context.Context, directory string) ([]string, error) {
	path := a.KVMount + "/metadata/" + directory
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
