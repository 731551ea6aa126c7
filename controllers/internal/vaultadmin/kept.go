package vaultadmin

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/hashicorp/vault/api"

	"github.com/securenotes/securenotes/app/config"
)

// Kept is what Vault has of one SecureNotes, which may have been deleted.
type Kept struct {
	Namespace, Name string
	// Marker names the owner. Its UID is empty if there is no marker, or none that can be read.
	Marker config.Marker
	// NoMarker reports that there is no marker, not even a damaged one.
	NoMarker bool
	// Changed is false only if all versions of the marker name the same SecureNotes and the same
	// cluster, and the marker is known to be older than the key. Anyone with the operator's Vault
	// token can write the marker.
	Changed bool
	// Clusters are those that the versions of the marker name, newest first.
	Clusters []string

	hasKey bool
	// version of the marker in KV.
	version int64
	// shredding is the transit mount of the key that an interrupted shred was about to destroy.
	shredding string
}

// customShredding is the field of the marker's custom metadata that records a shred before it
// starts. The operator's Vault token cannot write it.
const customShredding = "securenotes-shredding"

func (a Archive) recordShredding(ctx context.Context, directory string) error {
	path := a.KVMount + "/metadata/" + directory + "/" + config.MarkerLeaf
	_, err := a.Client.Logical().WriteWithContext(ctx, path, map[string]any{"custom_metadata": map[string]any{customShredding: a.TransitMount}})
	if err != nil {
		return fmt.Errorf("record in %s that its keys are about to be destroyed: %w; nothing was destroyed", path, err)
	}
	return nil
}

// readMasterKey returns when the first version of the key was created, or 0 if Vault does not list
// it. Later versions prove nothing, because the operator's token can create them.
func (a Archive) readMasterKey(ctx context.Context, kept *Kept) (created int64, err error) {
	path := a.TransitMount + "/keys/" + config.TransitKeyName(a.ClusterID, kept.Namespace, kept.Name)
	secret, err := a.Client.Logical().ReadWithContext(ctx, path)
	if err != nil {
		return 0, fmt.Errorf("read %s: %w", path, err)
	}
	if secret == nil {
		return 0, nil
	}
	kept.hasKey = true
	versions, _ := secret.Data["keys"].(map[string]any)
	if at, err := integer(versions, "1"); err == nil {
		created = at
	}
	return created, nil
}

// readMarker reads the marker and its earlier versions. The operator writes the marker before it
// creates the key, so an entry that is newer than the key has replaced another one.
func (a Archive) readMarker(ctx context.Context, kept *Kept, keyCreated int64) error {
	leaf := config.KVPath(a.ClusterID, kept.Namespace, kept.Name) + "/" + config.MarkerLeaf
	path := a.KVMount + "/metadata/" + leaf
	secret, err := a.Client.Logical().ReadWithContext(ctx, path)
	if err != nil {
		return fmt.Errorf("read %s: %w", path, err)
	}
	if secret == nil {
		kept.NoMarker = true
		return nil
	}
	if kept.version, err = integer(secret.Data, "current_version"); err != nil {
		return fmt.Errorf("read %s: %w", path, err)
	}
	oldest, err := integer(secret.Data, "oldest_version")
	if err != nil {
		return fmt.Errorf("read %s: %w", path, err)
	}
	custom, _ := secret.Data["custom_metadata"].(map[string]any)
	kept.shredding, _ = custom[customShredding].(string)
	at, _ := secret.Data["created_time"].(string)
	created, err := time.Parse(time.RFC3339Nano, at)
	if err != nil {
		return fmt.Errorf("read %s: Vault's answer does not say when it was created", path)
	}
	kept.Changed = oldest > 1 || kept.hasKey && (keyCreated == 0 || created.Unix() > keyCreated)
	path = a.KVMount + "/data/" + leaf
	for version := kept.version; version >= max(oldest, 1); version-- {
		marker, err := a.markerVersion(ctx, path, version)
		if err != nil {
			return err
		}
		if version == kept.version {
			kept.Marker = marker
		}
		if marker.UID == "" || marker.UID != kept.Marker.UID {
			kept.Changed = true
		}
		if of := marker.ClusterUID; of != "" {
			kept.Changed = kept.Changed || of != kept.Marker.ClusterUID
			kept.Clusters = append(kept.Clusters, of)
		}
	}
	return nil
}

// markerVersion returns one version of a marker. It is empty if the version was deleted, destroyed
// or damaged.
func (a Archive) markerVersion(ctx context.Context, path string, version int64) (config.Marker, error) {
	secret, err := a.Client.Logical().ReadWithDataWithContext(ctx, path, map[string][]string{"version": {strconv.FormatInt(version, 10)}})
	if err != nil && !isStatus(err, http.StatusNotFound) {
		return config.Marker{}, fmt.Errorf("read version %d of %s: %w", version, path, err)
	}
	if secret == nil {
		secret = &api.Secret{}
	}
	raw, err := json.Marshal(secret.Data["data"])
	if err != nil {
		return config.Marker{}, fmt.Errorf("read version %d of %s: %w", version, path, err)
	}
	if marker, err := config.ParseMarker(raw); err == nil {
		return marker, nil
	}
	return config.Marker{}, nil
}
