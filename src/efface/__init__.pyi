from .api.attack import attack as attack
from .api.compare import compare as compare
from .api.compose import compose as compose
from .api.coreferences import propose_coreferences as propose_coreferences
from .api.erase import erase as erase
from .api.evaluate import evaluate as evaluate
from .api.export import export as export
from .api.new_benchmark import new_benchmark as new_benchmark
from .api.report import report as report
from .api.revise import revise as revise
from .api.transfer import transfer as transfer
from .benchmarks.benchmark import Benchmark as Benchmark
from .core.attack_set import AttackSet as AttackSet
from .core.concept import Concept as Concept
from .core.erasure import Erasure as Erasure
from .core.erasure import verify as verify
from .core.errors import EffaceError as EffaceError
from .core.result import Result as Result
from .core.score import Score as Score
from .core.verdict import Verdict as Verdict
from .detectors.pocket_judge import Judge as Judge
from .detectors.pocket_judge import load_judge as load_judge
from .models.loading import load_model as load_model
from .ops.editing.apply import applied as applied
from .ops.editing.apply import apply as apply
from .ops.editing.apply import remove as remove

__version__: str
