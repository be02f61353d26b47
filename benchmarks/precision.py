"""How far tf32, bf16 and fp16 move what is stored, against fp32 of the same clips.

    python benchmarks/precision.py [--small] [--model MODEL ...] [--clips N] [--device DEVICE] [--out DIR]

Prints, for every layer, the largest difference of a clip relative to its largest value and the least pooled
cosine; writes the table of the worst layers as Markdown. tf32 is fp32 on a CPU and is left out there.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from machine import describe  # noqa: E402
from speech import deviations, pooled_cosines, save_model, write_corpus  # noqa: E402


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--small", action="store_true", help="a smoke run of seconds; its numbers say little")
    parser.add_argument("--model", nargs="*", help="default: HuBERT-base with random weights")
    parser.add_argument("--clips", type=int)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results")
    options = parser.parse_args()

    from extractors import ExtractConfig, extract
    from extractors.run.plan import resolve_device
    from featurestore import open_store

    device = resolve_device(options.device)
    lines = [
        "| model | precision | layer of the largest | relative difference | least cosine |",
        "|" + "---|" * 5,
    ]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        manifest = write_corpus(folder / "audio", options.clips or (12 if options.small else 64))
        models = options.model or [str(save_model(folder / "hubert-base-random", small=options.small))]
        for model in models:
            for precision in ("fp32", "bf16", "fp16", *(["tf32"] if device.startswith("cuda") else [])):
                summary = extract(
                    ExtractConfig(
                        manifest=manifest,
                        dataset=precision,
                        model=model,
                        store=str(folder / "store"),
                        device=device,
                        precision=precision,  # type: ignore[arg-type]
                        selfcheck=0,
                    )
                )
                stored = open_store(folder / "store")
                key = summary.key.split("/")[0]
                if precision == "fp32":
                    exact = stored.features(key, precision)
                    continue
                found = stored.features(key, precision)
                if summary.failed:
                    lines.append(f"| {key} | {precision} | {len(summary.failed)} clips failed | | |")
                    continue
                worst, cosine = deviations(found, exact).max(1), pooled_cosines(found, exact).min(1)
                for layer, w, c in zip(found.layers, worst, cosine, strict=True):
                    print(f"{key} {precision} layer {layer:2}: {w:.1e} relative, cosine {c:.6f}", flush=True)
                lines.append(
                    f"| {key} | {precision} | {found.layers[int(worst.argmax())]} | {worst.max():.1e} "
                    f"| {cosine.min():.6f} |"
                )
    lines.append(f"\n{describe('torch', 'transformers')}; on {device}.")
    print("\n".join(lines))
    if not options.small:
        options.out.mkdir(parents=True, exist_ok=True)
        (options.out / f"precision_{device.partition(':')[0]}.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
