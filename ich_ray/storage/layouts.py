"""The layout that the settings of a corpus choose."""

from ich_ray.config import CorpusConfig, NiftiConfig
from ich_ray.identity import content_hash
from ich_ray.settings import resolved
from ich_ray.storage.corpora.cq500 import Cq500
from ich_ray.storage.corpora.ct_ich import CtIch
from ich_ray.storage.corpora.folder import Folder
from ich_ray.storage.corpora.layout import Layout
from ich_ray.storage.corpora.nifti import Nifti
from ich_ray.storage.corpora.rsna import Rsna


def layout_of(config: CorpusConfig) -> Layout:
    """Return the layout of a corpus, with its settings."""
    match config.layout:
        case "rsna":
            return Rsna(automatic_masks=config.automatic_masks)
        case "cq500":
            return Cq500(automatic_masks=config.automatic_masks)
        case "ct_ich":
            return CtIch()
        case "nifti":
            return Nifti(config.nifti)
        case "folder":
            return Folder(config.nifti, automatic_masks=config.automatic_masks)


def layout_id(config: CorpusConfig) -> str:
    """Return what a corpus records of its layout: rows of two are never in one table.

    Templates, mask values and whose masks count decide what the same objects become, so they are
    part of it.

    >>> layout_id(CorpusConfig(layout="rsna", source="data"))
    'rsna'
    """
    name = f"{config.layout}-automatic" if config.automatic_masks else config.layout
    if config.nifti == NiftiConfig():
        return name
    return f"{name}-{content_hash(resolved(config.nifti))}"
