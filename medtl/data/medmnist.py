"""What classes and modalities MedMNIST v2's sets have, by the stem of the file (Yang 2023, table 3 and info.py)."""

FINDING_OF_CLASS = {
    "pneumoniamnist": ("pneumonia", 1),
    "breastmnist": ("malignant", 0),
    "nodulemnist3d": ("malignant", 1),
    "adrenalmnist3d": ("hyperplasia", 1),
    "vesselmnist3d": ("aneurysm", 1),
    "synapsemnist3d": ("excitatory", 1),
}
"""Two-class sets: the finding, and the class that means it is there. In breastmnist class 1 is normal or benign."""

_ORGANS = (
    "bladder", "femur_left", "femur_right", "heart", "kidney_left", "kidney_right", "liver", "lung_left", "lung_right",
    "pancreas", "spleen",
)  # fmt: skip
CLASSES = {
    "pathmnist": (
        "adipose", "background", "debris", "lymphocytes", "mucus", "smooth_muscle", "normal_colon_mucosa",
        "cancer_associated_stroma", "colorectal_adenocarcinoma_epithelium",
    ),
    "dermamnist": (
        "actinic_keratoses", "basal_cell_carcinoma", "benign_keratosis_like_lesions", "dermatofibroma", "melanoma",
        "melanocytic_nevi", "vascular_lesions",
    ),
    "octmnist": ("choroidal_neovascularization", "diabetic_macular_edema", "drusen", "normal"),
    "retinamnist": ("grade_0", "grade_1", "grade_2", "grade_3", "grade_4"),
    "bloodmnist": (
        "basophil", "eosinophil", "erythroblast", "immature_granulocytes", "lymphocyte", "monocyte", "neutrophil",
        "platelet",
    ),
    "tissuemnist": (
        "collecting_duct_connecting_tubule", "distal_convoluted_tubule", "glomerular_endothelial_cells",
        "interstitial_endothelial_cells", "leukocytes", "podocytes", "proximal_tubule_segments", "thick_ascending_limb",
    ),
    "organamnist": _ORGANS,
    "organcmnist": _ORGANS,
    "organsmnist": _ORGANS,
    "organmnist3d": (
        "liver", "kidney_right", "kidney_left", "femur_right", "femur_left", "bladder", "heart", "lung_right",
        "lung_left", "spleen", "pancreas",
    ),
    "fracturemnist3d": ("buckle", "nondisplaced", "displaced"),
}  # fmt: skip
"""Sets of several classes, in the order of their numbers."""

LABELS = {
    "chestmnist": (
        "atelectasis", "cardiomegaly", "effusion", "infiltration", "mass", "nodule", "pneumonia", "pneumothorax",
        "consolidation", "edema", "emphysema", "fibrosis", "pleural_thickening", "hernia",
    ),
}  # fmt: skip
"""Sets of several labels a scan, in the order of their columns."""

MODALITY = {
    **dict.fromkeys(("pneumoniamnist", "chestmnist"), "DX"),
    **dict.fromkeys(("organamnist", "organcmnist", "organsmnist", "organmnist3d"), "CT"),
    **dict.fromkeys(("nodulemnist3d", "adrenalmnist3d", "fracturemnist3d"), "CT"),
    **dict.fromkeys(("bloodmnist", "tissuemnist", "synapsemnist3d"), "GM"),
    "breastmnist": "US", "vesselmnist3d": "MR", "pathmnist": "SM", "octmnist": "OPT", "retinamnist": "OP",
    "dermamnist": "XC",
}  # fmt: skip
"""As DICOM codes: GM is microscopy, SM slides, XC a camera, OPT and OP the eye."""
