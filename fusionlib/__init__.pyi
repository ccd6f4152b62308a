from .datasets import (
    fetch_dataset as fetch_dataset,
    list_datasets as list_datasets,
    load_dataset as load_dataset,
    load_images as load_images,
)
from .errors import (
    DatasetNotFound as DatasetNotFound,
    FusionError as FusionError,
    ImageError as ImageError,
    ImageTooSmall as ImageTooSmall,
    MetricWarning as MetricWarning,
    PairMismatch as PairMismatch,
    UnknownName as UnknownName,
    WeightsMismatch as WeightsMismatch,
    WeightsNotFound as WeightsNotFound,
)
from .evaluation import (
    OwnMethod as OwnMethod,
    benchmark as benchmark,
    evaluate as evaluate,
    evaluate_files as evaluate_files,
)
from .images import luminance as luminance, read_image as read_image, write_image as write_image
from .methods import (
    Method as Method,
    create as create,
    create_available as create_available,
    list_methods as list_methods,
)
from .metrics import list_metrics as list_metrics
from .pairs import Pair as Pair, read_pair as read_pair, read_pairs as read_pairs
from .tiles import Execution as Execution

__version__: str
