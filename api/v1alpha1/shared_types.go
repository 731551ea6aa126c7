package v1alpha1

import "encoding/json"

// Duration is a length of time in hours, minutes and seconds, such as 24h or 1h30m. It is a string
// with a pattern, because metav1.Duration lets 3d past admission and then breaks the informer's list
// for every object. Days are not a unit: write 72h.
// +kubebuilder:validation:MinLength=2
// +kubebuilder:validation:MaxLength=20
// +kubebuilder:validation:Pattern=`^([0-9]{1,6}h)?([0-9]{1,6}m)?([0-9]{1,6}s)?$`
type Duration string

// Quantity is an amount of a resource, such as 250m, 0.5 or 64Mi, or a whole number without quotes.
// A string has a pattern, because resource.Quantity lets 1e1.5 past admission and then breaks the
// informer's list for every object, and takes seconds to read an exponent of seven digits. A number
// with a fraction is quoted: "0.5".
// +kubebuilder:validation:XIntOrString
// +kubebuilder:validation:MinLength=1
// +kubebuilder:validation:MaxLength=20
// +kubebuilder:validation:Pattern=`^[0-9]{1,12}(\.[0-9]{1,3})?(m|k|M|G|T|P|Ki|Mi|Gi|Ti|Pi)?$`
// +kubebuilder:validation:XValidation:rule="type(self) != int || self >= 0 && self <= 999999999999",message="an amount is 0 to 999999999999: write a larger one with a unit, such as 2Ti"
// +kubebuilder:validation:Type=""
type Quantity string

// UnmarshalJSON also reads a number. It refuses nothing: what cannot be read as an amount would
// break the list of every object, and is found when it is used.
func (q *Quantity) UnmarshalJSON(raw []byte) error {
	text := ""
	if err := json.Unmarshal(raw, &text); err != nil {
		text = string(raw)
	}
	*q = Quantity(text)
	return nil
}

// LocalObjectReference names an object of the same namespace.
type LocalObjectReference struct {
	// name of the object.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +required
	Name string `json:"name,omitempty"`
}

// SecretKeyReference names one key of a Secret of the same namespace. The operator never reads
// Secrets: the kubelet mounts the key into the service's pods.
type SecretKeyReference struct {
	// name of the Secret.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:Pattern=`^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$`
	// +required
	Name string `json:"name,omitempty"`

	// key within the Secret.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:Pattern=`^[-._a-zA-Z0-9]+$`
	// +required
	Key string `json:"key,omitempty"`
}

// RotationStrategy says how far a rotation goes.
// +kubebuilder:validation:Enum=Reencrypt;Rewrap
type RotationStrategy string

const (
	// StrategyReencrypt gives every owner a new key and seals every note anew under it.
	StrategyReencrypt RotationStrategy = "Reencrypt"
	// StrategyRewrap wraps the owners' keys anew and leaves the notes as they are: fast, and enough
	// when no owner key can have leaked.
	StrategyRewrap RotationStrategy = "Rewrap"
)
